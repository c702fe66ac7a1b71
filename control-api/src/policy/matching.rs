//! Which calls a route is for.

use std::fmt;

use http::Method;

/// What a call is matched by.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Host of the call, lower case, without its port.
    pub host: &'a str,
    /// Port of the original destination.
    pub port: u16,
    /// Path without its query; empty for opaque connections.
    pub path: &'a str,
    /// HTTP method.
    pub method: &'a Method,
}

/// Which calls a route is for: those that fulfil every member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Match {
    /// Whom the call is for.
    pub(crate) authority: Authority,
    /// Port of the original destination. None: any.
    pub(crate) port: Option<u16>,
    /// First segments of the path, as they were written. None: any path, and opaque connections.
    pub(crate) path_prefix: Option<String>,
    /// HTTP methods. Empty: any.
    pub(crate) methods: Vec<Method>,
}

/// Whom a call is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Authority {
    /// This host, lower case, without brackets or a final dot.
    Exact(String),
    /// Every host below this domain, at any depth, but not the domain itself; lower case.
    Suffix(String),
    /// Every host.
    Any,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(domain) => write!(f, "*.{domain}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Removes what may be written around a host without changing it: the brackets of an IPv6 address, or the final dot of
/// a fully qualified name.
pub(crate) fn bare_host(host: &str) -> &str {
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address,
        None => host.strip_suffix('.').unwrap_or(host),
    }
}

/// Whether `path` starts with the segments of `prefix`, which has no slash at its end.
///
/// As in Gateway API's `PathPrefix`: `/v1` covers `/v1`, `/v1/` and `/v1/a`, but not `/v10`. An opaque connection has no
/// path, and no prefix covers it.
pub(super) fn covers(prefix: &str, path: &str) -> bool {
    !path.is_empty()
        && path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
