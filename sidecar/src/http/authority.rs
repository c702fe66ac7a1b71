//! The name of the service that a call is for.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::header::HOST;
use http::request::Parts;

/// The call's host as its caller named it, lower case and without port: the request target's, else the `Host` header's,
/// else none.
#[must_use]
pub fn host(head: &Parts) -> Option<&str> {
    let authority = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.headers.get(HOST)?.to_str().ok()?,
    };
    let userinfo = last(authority, b'@').map_or(0, |at| at + 1);
    let host = without_port(authority.get(userinfo..).unwrap_or(authority));
    (!host.is_empty() && host.len() <= HOST_BYTES_MAX).then_some(host)
}

/// `host` where the caller named one, else the original destination's address.
#[must_use]
pub fn host_or_address(head: &Parts, original_destination: SocketAddr) -> Cow<'_, str> {
    match host(head) {
        None => original_destination.ip().to_string().into(),
        Some(host) if host.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            host.to_ascii_lowercase().into()
        }
        Some(host) => host.into(),
    }
}

/// Strips `:port`, and leaves the brackets of an IPv6 literal.
fn without_port(authority: &str) -> &str {
    match last(authority, b':') {
        Some(colon) if !authority.bytes().skip(colon).any(|byte| byte == b']') => {
            authority.get(..colon).unwrap_or(authority)
        }
        _ => authority,
    }
}

/// Where an ASCII character stands last. Authorities are short: a search made for long texts costs more to set up.
fn last(text: &str, character: u8) -> Option<usize> {
    text.bytes().rposition(|byte| byte == character)
}

/// Longest host name that DNS allows (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, host: Option<&str>) -> Parts {
        let mut builder = http::Request::builder().uri(uri);
        if let Some(host) = host {
            builder = builder.header(HOST, host);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_request_target_wins_over_the_host_header() {
        assert_eq!(host(&head("http://a.b:80/x", Some("c.d"))), Some("a.b"));
    }

    #[test]
    fn ports_are_stripped_and_brackets_stay() {
        assert_eq!(host(&head("/", Some("shop:8080"))), Some("shop"));
        assert_eq!(host(&head("/", Some("[::1]:8080"))), Some("[::1]"));
        assert_eq!(host(&head("/", Some("[::1]"))), Some("[::1]"));
    }

    #[test]
    fn without_a_name_the_address_stands_in() {
        assert_eq!(
            host_or_address(&head("/", None), "10.0.0.7:80".parse().unwrap()),
            "10.0.0.7"
        );
        assert_eq!(
            host_or_address(&head("/", Some("Shop.Svc")), "10.0.0.7:80".parse().unwrap()),
            "shop.svc"
        );
    }
}
