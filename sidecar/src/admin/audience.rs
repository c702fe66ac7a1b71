//! Who can reach the admin port, and what follows from it.
//!
//! On loopback it is the developer at this machine, who may see the paths of calls. But a web page that the developer visits
//! can make its own host name resolve to 127.0.0.1, and would then read `/live.json` as its own (DNS rebinding). It cannot
//! change the `Host` that the browser sends: only names that mean this machine are answered.
//!
//! On a pod's address it is the whole cluster, unauthenticated, under any name. Paths, which may hold what only their callers
//! should know, are not shown there; spans and the access log have them.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{Request, header};

/// Who can reach the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// This machine.
    Local,
    /// Everybody on the network.
    Network,
}

impl Audience {
    /// The audience of a listener on this address.
    pub(super) fn of(listener: IpAddr) -> Self {
        if listener.is_loopback() {
            Self::Local
        } else {
            Self::Network
        }
    }

    /// Whether a request may be answered.
    pub(super) fn may_ask<B>(self, request: &Request<B>) -> bool {
        match self {
            Self::Network => true,
            Self::Local => {
                let host = request.headers().get(header::HOST);
                // HTTP/1.0 sends none; a browser always does.
                host.is_none_or(|host| host.to_str().is_ok_and(means_this_machine))
            }
        }
    }
}

fn means_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_listener_answers_only_to_names_of_this_machine() {
        for name in [
            "localhost",
            "LOCALHOST:19402",
            "127.0.0.1:19402",
            "[::1]:19402",
            "::1",
        ] {
            assert_eq!(means_this_machine(name), name != "::1", "{name}");
        }
        for name in [
            "evil.example",
            "localhost.evil.example:19402",
            "",
            "127.0.0.1.evil.example",
            "a b",
        ] {
            assert!(!means_this_machine(name), "{name}");
        }
    }

    #[test]
    fn a_pod_address_answers_to_any_name() {
        let audience = Audience::of(IpAddr::from([10, 0, 0, 7]));
        let request = Request::builder()
            .header("host", "weir-metrics.shop")
            .body(());
        assert!(audience.may_ask(&request.unwrap()));
    }
}
