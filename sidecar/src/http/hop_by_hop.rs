//! Removes the headers that belong to one connection and not to the message (RFC 9110 §7.6.1).

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::fields::Fields;

/// Removes hop-by-hop fields from a message's headers.
///
/// `TE: trailers` stays, since weir passes trailers on. `Transfer-Encoding` goes: the framing is each side's own.
/// `Upgrade` and its `Connection` entry stay where `upgrade` says that the message asks for, or grants, a tunnel.
pub fn remove(headers: &mut HeaderMap, upgrade: Upgrade) {
    if !Fields::of(headers).has_hop_by_hop() {
        return;
    }
    let kept_upgrade = match upgrade {
        Upgrade::Keep => headers.get(UPGRADE).cloned(),
        Upgrade::Remove => None,
    };
    if headers.contains_key(CONNECTION) {
        remove_nominated(headers);
    }
    for name in &FIELDS {
        if headers.contains_key(name) {
            headers.remove(name);
        }
    }
    if let Some(te) = headers.get(TE) {
        let trailers = te.to_str().is_ok_and(|te| {
            te.split(',')
                .any(|t| t.trim().eq_ignore_ascii_case("trailers"))
        });
        headers.remove(TE);
        if trailers {
            headers.insert(TE, http::HeaderValue::from_static("trailers"));
        }
    }
    if let Some(protocol) = kept_upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, http::HeaderValue::from_static("upgrade"));
    }
}

/// Whether the message's `Upgrade` field is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// A tunnel is asked for or granted.
    Keep,
    /// It is not.
    Remove,
}

fn remove_nominated(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|option| {
            !option.eq_ignore_ascii_case("close") && !option.eq_ignore_ascii_case("keep-alive")
        })
        .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
        // These have rules of their own, or carry the message: nominating them must not take them away.
        .filter(|name| ![TE, TRAILER, TRANSFER_ENCODING, HOST, CONTENT_LENGTH].contains(name))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// RFC 9110 §7.6.1 and RFC 9113 §8.2.2.
const FIELDS: [HeaderName; 4] = [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn nominated_fields_go_with_the_connection_field() {
        let mut map = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("x-kept", "2"),
        ]);
        remove(&mut map, Upgrade::Remove);
        assert_eq!(map, headers(&[("x-kept", "2")]));
    }

    #[test]
    fn te_keeps_only_trailers() {
        let mut map = headers(&[("te", "gzip, trailers")]);
        remove(&mut map, Upgrade::Remove);
        assert_eq!(map, headers(&[("te", "trailers")]));
        let mut map = headers(&[("te", "gzip")]);
        remove(&mut map, Upgrade::Remove);
        assert!(map.is_empty());
    }

    #[test]
    fn an_upgrade_stays_only_when_asked_for() {
        let mut map = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        remove(&mut map, Upgrade::Keep);
        assert_eq!(
            map,
            headers(&[("upgrade", "websocket"), ("connection", "upgrade")])
        );
        remove(&mut map, Upgrade::Remove);
        assert!(map.is_empty());
    }
}
