//! A point in time as JSON: RFC 3339, UTC, milliseconds.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// Milliseconds since 1970-01-01 UTC, written as `2026-01-31T12:00:00.250Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The current time by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// A time by its milliseconds since 1970-01-01 UTC; times after the year 9999 become its end.
    #[must_use]
    pub fn from_unix_millis(millis: u64) -> Self {
        Self(millis.min(MILLIS_MAX))
    }

    /// Milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this one; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(MILLIS_MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, millis) = (self.0 / DAY_MILLIS, self.0 % DAY_MILLIS);
        let (year, month, day) = date(days);
        let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
        let (seconds, millis) = (millis / 1000 % 60, millis % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z"
        )
    }
}

/// Why a text is no timestamp of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time like 2026-01-31T12:00:00.250Z")]
pub struct NoTimestamp;

impl FromStr for Timestamp {
    type Err = NoTimestamp;

    /// Reads what [`fmt::Display`] writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, NoTimestamp> {
        let number = |range: std::ops::Range<usize>| -> Result<u64, NoTimestamp> {
            let digits = text.get(range).ok_or(NoTimestamp)?;
            digits.parse().map_err(|_| NoTimestamp)
        };
        let days = days(number(0..4)?, number(5..7)?, number(8..10)?).ok_or(NoTimestamp)?;
        let seconds = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
        let time = Self(days * DAY_MILLIS + seconds * 1000 + number(20..23)?);
        // Whatever is out of range or out of place does not come back the same.
        if time.to_string() == text {
            Ok(time)
        } else {
            Err(NoTimestamp)
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`: years start in March, so that the
/// leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + MARCH_OF_YEAR_0;
    let (era, day_of_era) = (shifted / ERA_DAYS, shifted % ERA_DAYS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// The day of a date, counted from 1970-01-01: `days_from_civil` of the same source.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let month_from_march = (month + 9) % 12;
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * ERA_DAYS + day_of_era).checked_sub(MARCH_OF_YEAR_0)
}

/// Days from 0000-03-01 to 1970-01-01.
const MARCH_OF_YEAR_0: u64 = 719_468;
/// Days in 400 years.
const ERA_DAYS: u64 = 146_097;
const DAY_MILLIS: u64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z.
const MILLIS_MAX: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_are_written_right() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_unix_millis(millis).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn times_survive_a_round_trip(millis in 0..=MILLIS_MAX) {
            let time = Timestamp::from_unix_millis(millis);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String, nearly in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}.[0-9]{3}Z") {
            for text in [text, nearly] {
                if let Ok(time) = text.parse::<Timestamp>() {
                    prop_assert_eq!(time.to_string(), text);
                }
            }
        }
    }
}
