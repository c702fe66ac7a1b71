//! A call's deadline: the least of what the caller propagates and what the policy grants; passed on less what was
//! spent here.

use std::time::Duration;

use control_api::well_known::header;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::http::unindexed;

/// Which deadlines the caller brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Propagated {
    grpc: Option<Duration>,
    weir: Option<Duration>,
    envoy: Option<Duration>,
}

impl Propagated {
    /// Reads the caller's deadlines; values that cannot be read count as absent.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        Self {
            grpc: headers
                .get(&GRPC_TIMEOUT)
                .and_then(|value| parse_grpc_timeout(value.as_bytes())),
            weir: headers.get(&DEADLINE_MS).and_then(parse_millis),
            // Envoy writes 0 for "no timeout".
            envoy: headers
                .get(&ENVOY_TIMEOUT_MS)
                .and_then(parse_millis)
                .filter(|timeout| !timeout.is_zero()),
        }
    }

    /// The least of them.
    #[must_use]
    pub fn least(&self) -> Option<Duration> {
        [self.grpc, self.weir, self.envoy]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Writes what is left of a deadline for the next hop: always `x-weir-deadline-ms`, and the caller's own forms.
pub fn write(headers: &mut HeaderMap, propagated: &Propagated, left: Duration) {
    let millis = HeaderValue::from(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    let millis = unindexed(millis);
    if propagated.envoy.is_some() {
        headers.insert(ENVOY_TIMEOUT_MS, millis.clone());
    }
    headers.insert(DEADLINE_MS, millis);
    if propagated.grpc.is_some() {
        headers.insert(GRPC_TIMEOUT, unindexed(format_grpc_timeout(left)));
    }
}

/// gRPC over HTTP/2: `TimeoutValue` (at most 8 digits) and `TimeoutUnit`.
fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// The finest unit that fits 8 digits, rounded down: a hop must not get more time than is left.
fn format_grpc_timeout(left: Duration) -> HeaderValue {
    const DIGITS_8: u128 = 99_999_999;
    let units = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (left.as_secs().into(), 'S'),
    ];
    let text = units
        .iter()
        .find(|(amount, _)| *amount <= DIGITS_8)
        .map_or_else(
            || format!("{}H", left.as_secs() / 3600),
            |(amount, unit)| format!("{amount}{unit}"),
        );
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

fn parse_millis(value: &HeaderValue) -> Option<Duration> {
    value
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_millis)
}

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static(header::GRPC_TIMEOUT);
const DEADLINE_MS: HeaderName = HeaderName::from_static(header::DEADLINE_MS);
const ENVOY_TIMEOUT_MS: HeaderName = HeaderName::from_static(header::ENVOY_EXPECTED_TIMEOUT_MS);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_least_deadline_counts() {
        let map = headers(&[
            (GRPC_TIMEOUT, "2S"),
            (DEADLINE_MS, "1500"),
            (ENVOY_TIMEOUT_MS, "900"),
        ]);
        assert_eq!(
            Propagated::read(&map).least(),
            Some(Duration::from_millis(900))
        );
    }

    #[test]
    fn unreadable_deadlines_count_as_absent() {
        for value in ["", "S", "1", "-1S", "123456789S", "1x", "1.5S"] {
            assert_eq!(
                Propagated::read(&headers(&[(GRPC_TIMEOUT, value)])).least(),
                None,
                "{value}"
            );
        }
        assert_eq!(
            Propagated::read(&headers(&[(DEADLINE_MS, "soon")])).least(),
            None
        );
    }

    #[test]
    fn the_callers_own_forms_are_written_less_what_was_spent() {
        let mut map = headers(&[(GRPC_TIMEOUT, "2S"), (ENVOY_TIMEOUT_MS, "2000")]);
        let propagated = Propagated::read(&map);
        write(&mut map, &propagated, Duration::from_micros(1_499_500));
        assert_eq!(map.get(GRPC_TIMEOUT).unwrap(), "1499500u");
        assert_eq!(map.get(ENVOY_TIMEOUT_MS).unwrap(), "1499");
        assert_eq!(map.get(DEADLINE_MS).unwrap(), "1499");
    }

    proptest! {
        #[test]
        fn a_written_grpc_timeout_never_grows(nanos in 0u64..=360_000_000_000_000_000) {
            let left = Duration::from_nanos(nanos);
            let read = parse_grpc_timeout(format_grpc_timeout(left).as_bytes()).unwrap();
            prop_assert!(read <= left);
        }
    }
}
