//! Lengths of time, sizes and ratios as people write them.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Reads a length of time as documents write it: a whole number with its unit, such as `250ms`, `10s` or `1h`.
#[must_use]
pub fn parse_length(text: &str) -> Option<Duration> {
    Length::parse(text).map(|length| length.0)
}

/// A length of time: a whole number and its unit, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Length(pub(super) Duration);

impl Length {
    /// Reads a length. None: not a whole number with one of the units, or more than 2^64 nanoseconds.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let (_, nanos) = LENGTH_UNITS.iter().find(|(name, _)| *name == unit)?;
        let nanos = number.checked_mul(*nanos)?;
        Some(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let exact = |unit: &&(&str, u64)| nanos.is_multiple_of(u128::from(unit.1));
        match LENGTH_UNITS.iter().rev().find(exact) {
            Some((unit, size)) => write!(f, "{}{unit}", nanos / u128::from(*size)),
            None => write!(f, "{nanos}ns"),
        }
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes: `64KiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ByteSize(pub(super) usize);

impl ByteSize {
    /// Reads a size. None: not a whole number with one of the units, or more than memory can have.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
        let bytes = usize::try_from(number).ok()?.checked_mul(*bytes)?;
        Some(Self(bytes))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact =
            |unit: &&(&str, usize)| self.0.is_multiple_of(unit.1) && (self.0 > 0 || unit.1 == 1);
        match SIZE_UNITS.iter().rev().find(exact) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A ratio, exact in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ratio {
    pub(super) milli: u32,
}

impl Ratio {
    /// Reads a decimal number with at most three places. None: more places, a sign, an exponent, or out of range.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(places) {
            return None;
        }
        let places = places.trim_end_matches('0');
        if places.len() > 3 {
            return None;
        }
        let thousandths: u32 = format!("{places:0<3}").parse().ok()?;
        let milli = whole.parse::<u32>().ok()?.checked_mul(1000)?;
        Some(Self {
            milli: milli.checked_add(thousandths)?,
        })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, places) = (self.milli / 1000, self.milli % 1000);
        if places == 0 {
            return write!(f, "{whole}");
        }
        let places = format!("{places:03}");
        write!(f, "{whole}.{}", places.trim_end_matches('0'))
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.milli.is_multiple_of(1000) {
            return serializer.serialize_u32(self.milli / 1000);
        }
        serializer.serialize_f64(f64::from(self.milli) / 1000.0)
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Units of time in nanoseconds, ascending.
const LENGTH_UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Units of size in bytes, ascending. The decimal ones are left out: `64KB` is too often meant as `64KiB`.
const SIZE_UNITS: [(&str, usize); 3] = [("B", 1), ("KiB", 1024), ("MiB", 1024 * 1024)];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_written_in_their_largest_exact_unit() {
        for (text, canonical) in [
            ("10s", "10s"),
            ("60s", "1m"),
            ("90s", "90s"),
            ("1500ms", "1500ms"),
            ("1000ms", "1s"),
            ("0ms", "0s"),
            ("7us", "7us"),
        ] {
            assert_eq!(Length::parse(text).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "1m30s",
            "10sec",
            "99999999999999999999s",
            "99999999999h",
            "١s",
        ] {
            assert_eq!(Length::parse(text), None, "{text}");
        }
    }

    #[test]
    fn decimal_sizes_are_refused_as_ambiguous() {
        assert_eq!(ByteSize::parse("64KiB"), Some(ByteSize(65536)));
        assert_eq!(ByteSize::parse("64KB"), None);
        assert_eq!(ByteSize(0).to_string(), "0B");
    }

    #[test]
    fn ratios_are_exact_in_thousandths() {
        assert_eq!(Ratio::parse("0.3"), Some(Ratio { milli: 300 }));
        assert_eq!(Ratio::parse("1.0"), Some(Ratio { milli: 1000 }));
        assert_eq!(Ratio::parse("0.0005"), None);
        assert_eq!(Ratio::parse("1e-1"), None);
        assert_eq!(Ratio { milli: 20 }.to_string(), "0.02");
    }

    proptest! {
        #[test]
        fn quantities_survive_a_round_trip(nanos: u64, bytes: usize, milli: u32) {
            let length = Length(Duration::from_nanos(nanos));
            prop_assert_eq!(Length::parse(&length.to_string()), Some(length));
            let size = ByteSize(bytes);
            prop_assert_eq!(ByteSize::parse(&size.to_string()), Some(size));
            let ratio = Ratio { milli };
            prop_assert_eq!(Ratio::parse(&ratio.to_string()), Some(ratio));
            let json = serde_json::to_value(ratio).unwrap().to_string();
            prop_assert_eq!(Ratio::parse(&json), Some(ratio));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = (Length::parse(&text), ByteSize::parse(&text), Ratio::parse(&text));
        }
    }
}
