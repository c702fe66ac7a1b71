//! The form of a request's target on its way to the server (RFC 9112 §3.2).

use std::net::{IpAddr, SocketAddr};

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri};

/// Puts an absolute target into origin form where the server it names is the one that was dialled.
///
/// Where it names another, the dialled server is asked to be a proxy, and only the absolute form tells it for whom.
pub(super) fn settle<B>(request: &mut Request<B>, dialled: SocketAddr) {
    if request.uri().scheme().is_none() || request.method() == Method::CONNECT {
        return;
    }
    if names_dialled_server(request.uri(), dialled) {
        to_origin_form(request);
    }
}

/// Origin form, with the target's authority as the only Host (RFC 9112 §3.2.2).
pub(in crate::wire) fn to_origin_form<B>(request: &mut Request<B>) {
    let authority = request
        .uri()
        .authority()
        .map(http::uri::Authority::as_str)
        .map(|authority| {
            authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host)
        })
        .and_then(|host| HeaderValue::from_str(host).ok());
    let path = match request.uri().path_and_query() {
        Some(path) => path.clone(),
        None => PathAndQuery::from_static("/"),
    };
    if let Some(authority) = authority {
        request.headers_mut().insert(HOST, authority);
        *request.uri_mut() = Uri::from(path);
    }
}

/// Whether the target's host and port are the very address that the application dialled.
fn names_dialled_server(uri: &Uri, dialled: SocketAddr) -> bool {
    let port = uri.port_u16().unwrap_or(80);
    let Some(host) = uri.host() else { return false };
    let is_host = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => ip == dialled.ip(),
        Err(_name) => host.eq_ignore_ascii_case("localhost") && dialled.ip().is_loopback(),
    };
    is_host && port == dialled.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(target: &str, dialled: &str) -> (String, Option<String>) {
        let mut request = Request::get(target).header(HOST, "other").body(()).unwrap();
        settle(&mut request, dialled.parse().unwrap());
        let host = request.headers().get(HOST).unwrap().to_str().unwrap();
        (request.uri().to_string(), Some(host.to_owned()))
    }

    #[test]
    fn a_target_that_names_the_dialled_server_is_put_into_origin_form() {
        for (target, dialled, host) in [
            ("http://10.0.0.7:8080/a?b", "10.0.0.7:8080", "10.0.0.7:8080"),
            ("http://user:pw@10.0.0.7/a?b", "10.0.0.7:80", "10.0.0.7"),
            ("http://[::1]:81/a?b", "[::1]:81", "[::1]:81"),
            ("http://localhost:81/a?b", "127.0.0.1:81", "localhost:81"),
        ] {
            assert_eq!(
                settled(target, dialled),
                ("/a?b".to_owned(), Some(host.to_owned()))
            );
        }
        assert_eq!(settled("http://10.0.0.7", "10.0.0.7:80").0, "/");
    }

    #[test]
    fn a_target_for_a_dialled_proxy_stays_absolute() {
        for (target, dialled) in [
            ("http://shop.svc/a", "10.0.0.7:3128"),
            ("http://10.0.0.8:3128/a", "10.0.0.7:3128"),
        ] {
            assert_eq!(
                settled(target, dialled),
                (target.to_owned(), Some("other".to_owned()))
            );
        }
    }

    #[test]
    fn other_forms_stay() {
        assert_eq!(settled("/a?b", "10.0.0.7:80").0, "/a?b");
        assert_eq!(settled("*", "10.0.0.7:80").0, "*");
    }
}
