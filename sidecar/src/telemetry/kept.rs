//! A finished call in a size that may be kept.
//!
//! A record's target and ids are slices of the buffers that its head was read into, up to the header limit each: a queue of
//! records would keep all those buffers alive. Here they are copied, shortened, and the query is left behind.

use super::metrics::destinations::shortened;
use super::record::CallRecord;

/// Longest path that is kept, in bytes.
pub const PATH_BYTES_MAX: usize = 256;

/// Longest correlation id that is kept, in bytes. Ids come from outside; ours have 36.
pub const CORRELATION_ID_BYTES_MAX: usize = 128;

/// A finished call whose size is bounded: about a kibibyte, and 200 bytes for each attempt and decision.
#[derive(Debug, Clone)]
pub struct KeptCall {
    /// The record, without its method, target and correlation id.
    pub record: CallRecord,
    /// The method, or `_OTHER` for one that RFC 9110 and RFC 5789 do not know (OpenTelemetry's word).
    pub method: &'static str,
    /// The target's path, shortened.
    pub path: Box<str>,
    /// The correlation id, shortened.
    pub correlation_id: Box<str>,
}

impl From<CallRecord> for KeptCall {
    fn from(mut record: CallRecord) -> Self {
        let kept_path = path(&record).into();
        let correlation_id = readable(&record.correlation_id);
        let method = method(&record.method);
        record.uri = http::Uri::default();
        record.correlation_id = http::HeaderValue::from_static("");
        record.method = http::Method::default();
        Self {
            record,
            method,
            path: kept_path,
            correlation_id,
        }
    }
}

/// The target's path, shortened; `*` or an authority has none.
pub(super) fn path(record: &CallRecord) -> &str {
    shortened(record.uri.path(), PATH_BYTES_MAX)
}

/// An outside id as text that is safe to show: printable ASCII, shortened.
pub(super) fn readable(id: &http::HeaderValue) -> Box<str> {
    shortened(id.to_str().unwrap_or_default(), CORRELATION_ID_BYTES_MAX).into()
}

/// The method's name, if it is a known one.
pub(super) fn method(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "PATCH", "TRACE",
    ];
    let known = KNOWN.iter().find(|known| **known == method.as_str());
    known.copied().unwrap_or("_OTHER")
}

/// A trace or span id as lower-case hexadecimal digits.
pub(crate) fn hex(id: &[u8]) -> String {
    let mut text = String::with_capacity(id.len() * 2);
    for byte in id {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fixture;

    #[test]
    fn what_is_kept_is_bounded_and_holds_no_query() {
        let mut record = fixture::answered_call();
        record.uri = format!("http://payments/{}?card=4111", "p".repeat(60_000))
            .parse()
            .unwrap();
        record.correlation_id = http::HeaderValue::from_str(&"x".repeat(70_000)).unwrap();
        record.method = http::Method::from_bytes(b"BREW").unwrap();
        let kept = KeptCall::from(record);
        assert_eq!(kept.path.len(), PATH_BYTES_MAX);
        assert_eq!(kept.correlation_id.len(), CORRELATION_ID_BYTES_MAX);
        assert_eq!(kept.method, "_OTHER");
        assert!(!format!("{kept:?}").contains("4111"));
    }

    #[test]
    fn ids_are_lower_case_hexadecimal() {
        assert_eq!(hex(&[0x00, 0xab, 0x0f]), "00ab0f");
    }
}
