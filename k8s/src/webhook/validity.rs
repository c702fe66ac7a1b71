//! Reads from a certificate from when to when it is valid (RFC 5280 §4.1), and nothing else of it.

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    /// Its first second.
    pub(super) not_before: u32,
    /// Its last.
    pub(super) not_after: u32,
}

impl Validity {
    /// Of an X.509 certificate in DER. None: it is none, or begins before 1970 or ends after 2105.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (signed, _) = element(certificate, SEQUENCE)?;
        // The version is absent from version 1.
        let signed = match element(signed, VERSION) {
            Some((_, rest)) => rest,
            None => signed,
        };
        let (_serial, rest) = element(signed, INTEGER)?;
        let (_algorithm, rest) = element(rest, SEQUENCE)?;
        let (_issuer, rest) = element(rest, SEQUENCE)?;
        let (validity, _) = element(rest, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Self {
            not_before,
            not_after,
        })
    }
}

/// The seconds since 1970 of the first element, and what follows it.
fn time(bytes: &[u8]) -> Option<(u32, &[u8])> {
    if let Some((time, rest)) = element(bytes, UTC_TIME) {
        // RFC 5280 §4.1.2.5.1: two digits below 50 are of this century.
        let year = number(time.get(..2)?)?;
        let century = if year < 50 { 2000 } else { 1900 };
        return Some((seconds(century + year, time.get(2..)?)?, rest));
    }
    let (time, rest) = element(bytes, GENERALIZED_TIME)?;
    Some((seconds(number(time.get(..4)?)?, time.get(4..)?)?, rest))
}

/// The contents of the first element, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first != tag {
        return None;
    }
    let (short, rest) = rest.split_first()?;
    let (length, rest) = if *short < 0x80 {
        (usize::from(*short), rest)
    } else {
        // More than four bytes of length are no certificate's.
        let count = usize::from(*short & 0x7f);
        let (long, rest) = rest.split_at_checked(count).filter(|_| count <= 4)?;
        let length = long
            .iter()
            .fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
        (length, rest)
    };
    rest.split_at_checked(length)
}

/// Seconds since 1970 of `MMDDHHMMSSZ` in a year.
fn seconds(year: u32, rest: &[u8]) -> Option<u32> {
    let part = |place: usize| number(rest.get(place..place + 2)?);
    let (month, day) = (part(0)?, part(2)?);
    let days = days_since_1970(year, month, day)?;
    let time = part(4)? * 3600 + part(6)? * 60 + part(8)?;
    days.checked_mul(86_400)?.checked_add(time)
}

/// Howard Hinnant's `days_from_civil`, for years from 1970: a year that begins in March has its leap day at its end.
fn days_since_1970(year: u32, month: u32, day: u32) -> Option<u32> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    days.checked_sub(DAYS_TO_1970)
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From March of the year 0 to 1970.
const DAYS_TO_1970: u32 = 719_468;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made_until(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 2, 29);
        params.not_after = rcgen::date_time_ymd(year, 2, 28);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn either_kind_of_time_is_read() {
        let until = |year| {
            let validity = Validity::of(&made_until(year)).unwrap();
            assert_eq!(validity.not_before, 951_782_400);
            validity.not_after
        };
        assert_eq!(until(2030), 1_898_467_200);
        assert_eq!(until(2049), 2_498_083_200);
        // From 2050 on it is written in another way.
        assert_eq!(until(2060), 2_845_152_000);
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        assert_eq!(days_since_1970(1970, 1, 1), Some(0));
        assert_eq!(days_since_1970(2000, 2, 29), Some(11_016));
        assert_eq!(days_since_1970(2026, 11, 26), Some(20_783));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 0..600_usize, place in 0..600_usize, byte: u8) {
            let _any = Validity::of(&bytes);
            let mut certificate = made_until(2030);
            if let Some(changed) = certificate.get_mut(place) {
                *changed = byte;
            }
            certificate.truncate(cut);
            let _any = Validity::of(&certificate);
        }
    }
}
