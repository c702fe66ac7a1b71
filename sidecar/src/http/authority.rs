//! The name of the service that a call is for.

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
    let host = without_port(
        authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host),
    );
    (!host.is_empty() && host.len() <= HOST_BYTES_MAX).then_some(host)
}

/// `host` where the caller named one, else the original destination's address.
#[must_use]
pub fn host_or_address(head: &Parts, original_destination: SocketAddr) -> String {
    host(head).map_or_else(
        || original_destination.ip().to_string(),
        str::to_ascii_lowercase,
    )
}

/// Strips `:port`, and leaves the brackets of an IPv6 literal.
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon)
            if !authority
                .get(colon..)
                .is_some_and(|rest| rest.contains(']')) =>
        {
            authority.get(..colon).unwrap_or(authority)
        }
        _ => authority,
    }
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
