//! A call's correlation id: kept when the caller brings one, minted otherwise.

use control_api::well_known::header;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::http::unindexed;

/// The call's correlation id, also written to `headers`: `x-request-id`, else `x-correlation-id`, else a new UUID of version 7.
pub fn ensure(headers: &mut HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get_mut(&REQUEST_ID).filter(|id| !id.is_empty()) {
        id.set_sensitive(true);
        return id.clone();
    }
    let id = match headers.get(&CORRELATION_ID) {
        Some(id) if !id.is_empty() => id.clone(),
        _ => mint(),
    };
    let id = unindexed(id);
    headers.insert(REQUEST_ID, id.clone());
    id
}

/// A new id. UUIDs of version 7 (RFC 9562 §5.7) sort by time, so that ids of one incident stand together in a log.
fn mint() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    // Hex digits and hyphens are always a valid field value.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// `x-request-id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static(header::REQUEST_ID);
const CORRELATION_ID: HeaderName = HeaderName::from_static(header::CORRELATION_ID);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_there_stays() {
        let mut map = HeaderMap::new();
        map.insert(REQUEST_ID, HeaderValue::from_static("abc"));
        map.insert(CORRELATION_ID, HeaderValue::from_static("def"));
        assert_eq!(ensure(&mut map), "abc");
    }

    #[test]
    fn a_correlation_id_becomes_the_request_id() {
        let mut map = HeaderMap::new();
        map.insert(CORRELATION_ID, HeaderValue::from_static("def"));
        assert_eq!(ensure(&mut map), "def");
        assert_eq!(map.get(REQUEST_ID).unwrap(), "def");
    }

    #[test]
    fn an_absent_or_empty_id_is_minted_as_a_uuid_of_version_7() {
        for mut map in [
            HeaderMap::new(),
            [(REQUEST_ID, HeaderValue::from_static(""))]
                .into_iter()
                .collect(),
        ] {
            let id = ensure(&mut map);
            let id = Uuid::parse_str(id.to_str().unwrap()).unwrap();
            assert_eq!(id.get_version_num(), 7);
        }
    }
}
