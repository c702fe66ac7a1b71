//! What a response head says about a retry: its status, and the server's word in four headers.

use std::time::{Duration, SystemTime};

use control_api::well_known::header;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};

/// A response head, as far as retries and limits are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// gRPC status of a trailers-only response.
    pub grpc_status: Option<u16>,
    /// What the server says about a retry.
    pub pushback: Pushback,
    /// Whether a weir further down refused the call itself.
    pub is_refusal_of_weir: bool,
}

/// What a server says about a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushback {
    /// Nothing.
    None,
    /// Not before this time is over.
    After(Duration),
    /// Not at all.
    Never,
    /// Not at all, for somebody below already retried.
    ExhaustedBelow,
}

impl Answer {
    /// Reads a response head. `wall` is the time that a date in `Retry-After` is compared with.
    #[must_use]
    pub fn of(status: StatusCode, headers: &HeaderMap, wall: SystemTime) -> Self {
        Self {
            pushback: Pushback::of(headers, wall),
            ..Self::without_pushback(status, headers)
        }
    }

    /// The same without what the server says about a retry.
    #[must_use]
    pub fn without_pushback(status: StatusCode, headers: &HeaderMap) -> Self {
        Self {
            status,
            grpc_status: headers
                .get(&GRPC_STATUS)
                .and_then(|value| value.to_str().ok()?.trim().parse().ok()),
            pushback: Pushback::None,
            is_refusal_of_weir: headers.contains_key(&SHED),
        }
    }
}

impl Pushback {
    /// Reads `x-weir-retry`, `grpc-retry-pushback-ms` and `Retry-After`; the strictest counts.
    #[must_use]
    pub fn of(headers: &HeaderMap, wall: SystemTime) -> Self {
        [
            headers.get(&RETRY).map_or(Self::None, weir),
            headers
                .get(&GRPC_RETRY_PUSHBACK_MS)
                .map_or(Self::None, grpc),
            headers
                .get(http::header::RETRY_AFTER)
                .map_or(Self::None, |value| retry_after(value, wall)),
        ]
        .into_iter()
        .fold(Self::None, Self::stricter)
    }

    /// Whether it leaves no sensible retry: a longer wait than [`PATIENCE`] is a no.
    #[must_use]
    pub fn forbids(self) -> bool {
        match self {
            Self::None => false,
            Self::After(delay) => delay > PATIENCE,
            Self::Never | Self::ExhaustedBelow => true,
        }
    }

    /// The shortest wait before a retry.
    #[must_use]
    pub fn at_least(self) -> Duration {
        match self {
            Self::After(delay) => delay,
            Self::None | Self::Never | Self::ExhaustedBelow => Duration::ZERO,
        }
    }

    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::ExhaustedBelow, _) | (_, Self::ExhaustedBelow) => Self::ExhaustedBelow,
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::After(one), Self::After(two)) => Self::After(one.max(two)),
            (Self::After(delay), Self::None) | (Self::None, Self::After(delay)) => {
                Self::After(delay)
            }
            (Self::None, Self::None) => Self::None,
        }
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static(header::GRPC_STATUS);
const SHED: HeaderName = HeaderName::from_static(header::SHED);
const RETRY: HeaderName = HeaderName::from_static(header::RETRY);
const GRPC_RETRY_PUSHBACK_MS: HeaderName = HeaderName::from_static(header::GRPC_RETRY_PUSHBACK_MS);

/// `exhausted`, `none`, or milliseconds. A word from a later version is not ours to guess at.
fn weir(value: &HeaderValue) -> Pushback {
    match value.to_str().map(str::trim) {
        Ok("exhausted") => Pushback::ExhaustedBelow,
        Ok("none") => Pushback::Never,
        Ok(text) => milliseconds(text).map_or(Pushback::None, Pushback::After),
        Err(_) => Pushback::None,
    }
}

/// Milliseconds; negative or unparsable is a no (gRPC A6, "Pushback").
fn grpc(value: &HeaderValue) -> Pushback {
    value
        .to_str()
        .ok()
        .and_then(|text| milliseconds(text.trim()))
        .map_or(Pushback::Never, Pushback::After)
}

/// Seconds, or an HTTP date (RFC 9110 §10.2.3). Anything else is as if it were not there.
fn retry_after(value: &HeaderValue, wall: SystemTime) -> Pushback {
    let Ok(text) = value.to_str().map(str::trim) else {
        return Pushback::None;
    };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Pushback::After(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    httpdate::parse_http_date(text).map_or(Pushback::None, |date| {
        Pushback::After(date.duration_since(wall).unwrap_or_default())
    })
}

fn milliseconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_millis(text.parse().unwrap_or(u64::MAX)))
}

/// gRPC statuses that are the server's failure, not the call's: `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `DATA_LOSS`.
pub(super) fn is_grpc_failure(status: u16) -> bool {
    matches!(status, 2 | 4 | 13 | 15)
}

pub(super) const GRPC_RESOURCE_EXHAUSTED: u16 = 8;
pub(super) const GRPC_UNAVAILABLE: u16 = 14;

/// Longest wait that a server may impose on a call that we hold; longer ones are answered at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Pushback {
        let headers = pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        let wall = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        Pushback::of(&headers, wall)
    }

    #[test]
    fn each_header_is_read_as_its_specification_says() {
        let after = |milliseconds| Pushback::After(Duration::from_millis(milliseconds));
        for (name, value, expected) in [
            ("x-weir-retry", "exhausted", Pushback::ExhaustedBelow),
            ("x-weir-retry", "none", Pushback::Never),
            ("x-weir-retry", "40", after(40)),
            ("x-weir-retry", "later", Pushback::None),
            ("grpc-retry-pushback-ms", "0", after(0)),
            ("grpc-retry-pushback-ms", "150", after(150)),
            ("grpc-retry-pushback-ms", "-1", Pushback::Never),
            ("grpc-retry-pushback-ms", "soon", Pushback::Never),
            ("grpc-retry-pushback-ms", "", Pushback::Never),
            ("retry-after", "2", after(2000)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT", after(3000)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT", after(0)),
            ("retry-after", "-2", Pushback::None),
            ("retry-after", "soon", Pushback::None),
        ] {
            assert_eq!(read(&[(name, value)]), expected, "{name}: {value}");
        }
    }

    #[test]
    fn the_strictest_word_counts() {
        assert_eq!(
            read(&[("retry-after", "1"), ("grpc-retry-pushback-ms", "1500")]),
            Pushback::After(Duration::from_millis(1500))
        );
        assert_eq!(
            read(&[("retry-after", "1"), ("x-weir-retry", "none")]),
            Pushback::Never
        );
    }

    #[test]
    fn numbers_beyond_reason_forbid_a_retry() {
        for value in ["99999999999999999999999999", "11"] {
            assert!(read(&[("retry-after", value)]).forbids(), "{value}");
        }
        assert!(!read(&[("retry-after", "10")]).forbids());
    }
}
