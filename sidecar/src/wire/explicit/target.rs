//! Reads host and port out of the targets that a proxy gets (RFC 9112 §3.2.2 and §3.2.3).

use http::Uri;
use http::uri::{Authority, Scheme};

use super::Refusal;

/// Host and port of an absolute target.
///
/// # Errors
/// [`Refusal::NoHost`] for another form, [`Refusal::Scheme`] for anything but `http`, [`Refusal::NoPort`] for a port that
/// is none.
pub(super) fn of_call(uri: &Uri) -> Result<(&str, u16), Refusal> {
    let scheme = uri.scheme().ok_or(Refusal::NoHost)?;
    if *scheme != Scheme::HTTP {
        return Err(Refusal::Scheme(scheme.as_str().into()));
    }
    let host = host(uri)?;
    let authority = uri.authority().map_or("", Authority::as_str);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    // A port that is no number would be taken for none, and the call sent to a server that nobody asked for.
    let port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && !port.ends_with(']') => {
            let port = uri.port_u16().filter(|port| *port != 0);
            port.ok_or(Refusal::NoPort)?
        }
        Some(_) | None => HTTP_PORT,
    };
    Ok((host, port))
}

/// Host and port of a CONNECT. Its port is not optional (RFC 9110 §9.3.6).
///
/// # Errors
/// [`Refusal::NoPort`] without one.
pub(super) fn of_tunnel(uri: &Uri) -> Result<(&str, u16), Refusal> {
    let port = uri.port_u16().filter(|port| *port != 0);
    Ok((host(uri)?, port.ok_or(Refusal::NoPort)?))
}

/// The host, an IPv6 address without its brackets.
fn host(uri: &Uri) -> Result<&str, Refusal> {
    let host = uri.host().ok_or(Refusal::NoHost)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err(Refusal::NoHost);
    }
    Ok(host)
}

const HTTP_PORT: u16 = 80;
/// Longest host name that DNS allows (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn call(target: &str) -> Result<(String, u16), Refusal> {
        let uri: Uri = target.parse().unwrap();
        of_call(&uri).map(|(host, port)| (host.to_owned(), port))
    }

    fn tunnel(target: &str) -> Result<(String, u16), Refusal> {
        let uri: Uri = target.parse().unwrap();
        of_tunnel(&uri).map(|(host, port)| (host.to_owned(), port))
    }

    #[test]
    fn an_absolute_target_names_host_and_port() {
        for (target, host, port) in [
            ("http://shop/a", "shop", 80),
            ("http://shop:8080", "shop", 8080),
            ("http://user:pw@shop:81/", "shop", 81),
            ("http://[::1]:82/", "::1", 82),
            ("http://[::1]/", "::1", 80),
            ("http://10.0.0.7/", "10.0.0.7", 80),
            ("http://shop:/", "shop", 80),
            ("http://user:pw@shop/", "shop", 80),
        ] {
            assert_eq!(call(target).unwrap(), (host.to_owned(), port), "{target}");
        }
    }

    #[test]
    fn other_targets_are_refused_with_the_reason() {
        assert!(matches!(call("/a"), Err(Refusal::NoHost)));
        assert!(matches!(call("*"), Err(Refusal::NoHost)));
        assert!(matches!(call("https://shop/"), Err(Refusal::Scheme(_))));
        assert!(matches!(call("http://shop:99999/"), Err(Refusal::NoPort)));
        assert!(matches!(call("http://shop:0/"), Err(Refusal::NoPort)));
        let long = format!("http://{}/", "a".repeat(256));
        assert!(matches!(call(&long), Err(Refusal::NoHost)));
    }

    #[test]
    fn a_tunnel_needs_its_port() {
        assert_eq!(tunnel("shop:443").unwrap(), ("shop".to_owned(), 443));
        assert_eq!(tunnel("[::1]:443").unwrap(), ("::1".to_owned(), 443));
        assert!(matches!(tunnel("shop"), Err(Refusal::NoPort)));
        assert!(matches!(tunnel("shop:0"), Err(Refusal::NoPort)));
    }
}
