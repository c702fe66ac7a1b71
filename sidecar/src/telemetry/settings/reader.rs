//! Reads environment variables into values within their bounds, and collects every one that cannot be obeyed.

use std::str::FromStr;
use std::time::Duration;

use super::SettingError;

/// Reads variables, and notes what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) get: &'a dyn Fn(&str) -> Option<String>,
    pub(super) errors: Vec<SettingError>,
}

impl Reader<'_> {
    pub(super) fn text(&self, variable: &str) -> Option<String> {
        let value = (self.get)(variable)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The first of the variables that is set, with its name.
    pub(super) fn first(&self, variables: [&'static str; 2]) -> Option<(&'static str, String)> {
        variables
            .into_iter()
            .find_map(|variable| Some((variable, self.text(variable)?)))
    }

    pub(super) fn refuse(
        &mut self,
        variable: &'static str,
        value: impl Into<String>,
        expected: &'static str,
    ) {
        self.errors.push(SettingError {
            variable,
            value: value.into(),
            expected,
        });
    }

    /// A number within `range`, or its default.
    fn number(&mut self, variable: &'static str, default: u64, range: &Range) -> u64 {
        let Some(value) = self.text(variable) else {
            return default;
        };
        match u64::from_str(&value) {
            Ok(number) if (range.from..=range.to).contains(&number) => number,
            Ok(_) | Err(_) => {
                self.refuse(variable, value, range.expected);
                default
            }
        }
    }

    pub(super) fn duration(&mut self, variable: &'static str, default: Duration) -> Duration {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.number(variable, default, &MILLIS))
    }

    pub(super) fn size(&mut self, variable: &'static str, default: usize) -> usize {
        let default = u64::try_from(default).unwrap_or(u64::MAX);
        usize::try_from(self.number(variable, default, &SPANS)).unwrap_or(usize::MAX)
    }

    pub(super) fn flag(&mut self, variable: &'static str) -> bool {
        match self.text(variable) {
            None => false,
            Some(value) if value.eq_ignore_ascii_case("true") => true,
            Some(value) if value.eq_ignore_ascii_case("false") => false,
            Some(value) => {
                self.refuse(variable, value, "true or false");
                false
            }
        }
    }
}

/// `key=value` pairs with commas between them, percent-encoded (W3C Baggage, without its properties).
pub(super) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let decoded = |part: &str| {
        let bytes = percent_encoding::percent_decode_str(part.trim());
        bytes.decode_utf8().ok().map(std::borrow::Cow::into_owned)
    };
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let key = decoded(key).filter(|key| !key.is_empty())?;
            Some((key, decoded(value)?))
        })
        .collect()
}

struct Range {
    from: u64,
    to: u64,
    expected: &'static str,
}

const MILLIS: Range = Range {
    from: 1,
    to: 3_600_000,
    expected: "milliseconds from 1 to 3600000",
};

/// A queue of 65536 spans is some 30 MiB when the collector is gone: more is surely a mistake in a sidecar.
const SPANS: Range = Range {
    from: 1,
    to: 65_536,
    expected: "a number of spans from 1 to 65536",
};
