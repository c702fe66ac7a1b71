//! What may stand in an annotation or in the injector's settings, checked before it reaches a pod.
//!
//! A value that weir would refuse must not get that far: the pod would never start.

use std::net::IpAddr;
use std::time::Duration;

use control_api::document::parse_length;
use control_api::well_known::kubernetes::is_subdomain;

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidValue {
    text: String,
    expected: &'static str,
}

fn invalid(text: &str, expected: &'static str) -> InvalidValue {
    InvalidValue {
        text: text.to_owned(),
        expected,
    }
}

/// The entries of a list with commas; empty ones count for nothing.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

/// Checks each entry of a list, and writes the list without spaces.
fn list(
    text: &str,
    expected: &'static str,
    is_right: impl Fn(&str) -> bool,
) -> Result<String, InvalidValue> {
    match entries(text).find(|entry| !is_right(entry)) {
        Some(wrong) => Err(invalid(wrong, expected)),
        None => Ok(entries(text).collect::<Vec<_>>().join(",")),
    }
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

/// Ports and runs of ports, `3306,9000-9100`.
pub(crate) fn port_ranges(text: &str) -> Result<String, InvalidValue> {
    list(
        text,
        "a port like 3306, or a range like 9000-9100",
        |entry| {
            let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
            match (port(first.trim()), port(last.trim())) {
                (Some(first), Some(last)) => first <= last,
                _ => false,
            }
        },
    )
}

/// Single ports, `3306,5433`.
pub(crate) fn ports(text: &str) -> Result<String, InvalidValue> {
    list(text, "a port from 1 to 65535", |entry| {
        port(entry).is_some()
    })
}

/// Blocks of addresses, `10.0.0.0/8,192.0.2.7,fd00::/8`.
pub(crate) fn cidrs(text: &str) -> Result<String, InvalidValue> {
    let expected = "a block of addresses like 10.0.0.0/8, 192.0.2.7 or fd00::/8";
    list(text, expected, |entry| {
        let (address, prefix) = entry.split_once('/').unwrap_or((entry, "0"));
        let Ok(address) = address.parse::<IpAddr>() else {
            return false;
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        prefix.parse::<u8>().is_ok_and(|prefix| prefix <= width)
    })
}

/// One of a few words.
pub(crate) fn choice<T: Copy, const N: usize>(
    text: &str,
    expected: &'static str,
    words: [(&str, T); N],
) -> Result<T, InvalidValue> {
    let found = words.iter().find(|(word, _)| *word == text.trim());
    found
        .map(|(_, chosen)| *chosen)
        .ok_or_else(|| invalid(text, expected))
}

/// A user id that is not root's.
pub(crate) fn uid(text: &str) -> Result<u32, InvalidValue> {
    let expected = "a user id from 1 to 2147483647";
    let uid = text.trim().parse().ok();
    uid.filter(|uid| (1..=UID_MAX).contains(uid))
        .ok_or_else(|| invalid(text, expected))
}

/// A length of time that weir takes for a setting, with its text.
pub(crate) fn length(text: &str) -> Result<(String, Duration), InvalidValue> {
    let text = text.trim();
    let in_range = |length: &Duration| !length.is_zero() && *length <= Duration::from_hours(1);
    match parse_length(text).filter(in_range) {
        Some(length) => Ok((text.to_owned(), length)),
        None => Err(invalid(
            text,
            "a length of time like 250ms, 5s or 1m, above 0 and at most 1h",
        )),
    }
}

/// A share of traces, from 0 to 1.
pub(crate) fn ratio(text: &str) -> Result<String, InvalidValue> {
    let text = text.trim();
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.parse::<f64>() {
        Ok(ratio) if plain && ratio <= 1.0 => Ok(text.to_owned()),
        _ => Err(invalid(text, "a number from 0 to 1")),
    }
}

/// A log level, or several with targets before them.
pub(crate) fn log_level(text: &str) -> Result<String, InvalidValue> {
    let expected =
        "error, warn, info, debug, trace or off, or a list such as info,weir::access=info";
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    if entries(text).next().is_none() {
        return Err(invalid(text, expected));
    }
    list(text, expected, |entry| {
        let (target, level) = entry.split_once('=').unwrap_or(("weir", entry));
        let is_target = |byte: u8| byte.is_ascii_alphanumeric() || b"_:-.".contains(&byte);
        !target.is_empty()
            && target.bytes().all(is_target)
            && levels.iter().any(|known| known.eq_ignore_ascii_case(level))
    })
}

/// The name of a `ConfigMap`: labels of lower-case letters, digits and dashes (RFC 1123) with dots between them.
pub(crate) fn object_name(text: &str) -> Result<String, InvalidValue> {
    let text = text.trim();
    if is_subdomain(text) {
        Ok(text.to_owned())
    } else {
        Err(invalid(text, "the name of a ConfigMap"))
    }
}

/// An amount of processor time or memory, `20m` or `64Mi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    /// In thousand-millionths, so that amounts can be compared.
    nano: u128,
}

impl Quantity {
    /// Reads an amount as Kubernetes writes it, without an exponent.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let wrong = || invalid(text, "an amount like 20m, 0.5 or 64Mi");
        let trimmed = text.trim();
        let digits_end = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits_end);
        let (_, unit) = QUANTITY_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        let (whole, places) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || whole.len() > 12 || places.len() > 9 || places.contains('.') {
            return Err(wrong());
        }
        let scaled: u128 = format!("{whole}{places:0<9}")
            .parse()
            .map_err(|_| wrong())?;
        let nano = scaled.checked_mul(*unit).ok_or_else(wrong)? / NANO;
        Ok(Self {
            text: trimmed.to_owned(),
            nano,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is more than `other`.
    #[must_use]
    pub fn exceeds(&self, other: &Self) -> bool {
        self.nano > other.nano
    }
}

/// Highest user id that Kubernetes takes.
pub(crate) const UID_MAX: u32 = 2_147_483_647;

const NANO: u128 = 1_000_000_000;

/// What an amount's unit is, in thousand-millionths.
const QUANTITY_UNITS: &[(&str, u128)] = &[
    ("", NANO),
    ("n", 1),
    ("u", 1000),
    ("m", 1_000_000),
    ("k", NANO * 1000),
    ("M", NANO * 1_000_000),
    ("G", NANO * NANO),
    ("T", NANO * NANO * 1000),
    ("Ki", NANO << 10),
    ("Mi", NANO << 20),
    ("Gi", NANO << 30),
    ("Ti", NANO << 40),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_without_spaces_and_their_wrong_entry_is_named() {
        assert_eq!(
            port_ranges(" 3306, 9000-9100,"),
            Ok("3306,9000-9100".into())
        );
        assert_eq!(ports(""), Ok(String::new()));
        assert_eq!(
            cidrs("10.0.0.0/8,::1,fd00::/8"),
            Ok("10.0.0.0/8,::1,fd00::/8".into())
        );
        for wrong in ["0", "65536", "9100-9000", "http", "1-2-3"] {
            let error = port_ranges(&format!("80,{wrong}")).unwrap_err();
            assert_eq!(error.text, wrong);
        }
        assert!(ports("1-2").is_err());
        for wrong in ["10.0.0.0/33", "10.0.0/8", "::/129", "all", "10.0.0.0/"] {
            assert!(cidrs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_weir_itself_takes_passes() {
        assert!(uid("0").is_err());
        assert_eq!(uid("19400"), Ok(19400));
        assert!(length("20s").is_ok());
        assert!(length("20").is_err());
        assert!(length("2h").is_err());
        assert!(ratio("0.25").is_ok());
        for wrong in ["", ".", "1.1", "-0", "NaN", "1e-3", "inf"] {
            assert!(ratio(wrong).is_err(), "{wrong}");
        }
        assert!(log_level("info,weir::access=info").is_ok());
        for wrong in ["", "loud", "info,=debug", "weir=", ","] {
            assert!(log_level(wrong).is_err(), "{wrong}");
        }
        assert!(object_name("weir-policy.v2").is_ok());
        for wrong in ["", "Policy", "a..b", "-a", "a_b"] {
            assert!(object_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_compared_whatever_their_unit() {
        let amount = |text| Quantity::parse(text).unwrap();
        assert!(amount("1Gi").exceeds(&amount("1G")));
        assert!(!amount("1000m").exceeds(&amount("1")));
        assert!(amount("0.5").exceeds(&amount("499m")));
        for wrong in ["", "m", "1.2.3", "1 Gi", "1gb", "-1", "9999999999999"] {
            assert!(Quantity::parse(wrong).is_err(), "{wrong}");
        }
    }
}
