//! Proves that the rules work, by dialling an address that must land on us.
//!
//! The address is one of those set aside for documentation (RFC 5737, RFC 3849), so nobody else should answer there.
//! When nobody listens on the redirect port yet, we do, and ask the accepted connection where it was going. When the
//! proxy is already there, the kernel's list of connections tells whether ours ended at it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::intercept::cidr::{Cidr, PortRange};
use crate::intercept::original_dst;
use crate::intercept::tcp_table;

/// Longest wait for the connection to be made, and then for it to be accepted. On loopback both take microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

const ADDRESSES_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv4Addr::new(192, 0, 2, 1),
];
const ADDRESSES_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1),
];
const PORTS: [u16; 4] = [20001, 80, 443, 8080];

/// What the rules are supposed to do.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The port that connections are sent to.
    pub redirect_port: u16,
    /// Ports that are left alone, and so prove nothing.
    pub skip_ports: Vec<PortRange>,
    /// Addresses that are left alone, and so prove nothing.
    pub skip_cidrs: Vec<Cidr>,
}

/// What was found out about one family of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A connection to this address landed on the redirect port.
    Redirected(SocketAddr),
    /// Nothing can leave by this family, so nothing needs to be redirected.
    Unreachable,
    /// Every address or port that could be dialled for a test is skipped by the rules.
    AllSkipped,
}

/// What was found out about both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// IPv4.
    pub v4: Finding,
    /// IPv6.
    pub v6: Finding,
}

/// Why the rules cannot be called working.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The connection went elsewhere, or nowhere.
    #[error(
        "a connection to {target} did not land on port {redirect_port} ({detail}); \
         is the table there (`weir redirect`), does this process run as another user than the proxy, \
         and does no other mesh or CNI rewrite the connection first?"
    )]
    NotRedirected {
        /// What was dialled.
        target: SocketAddr,
        /// Where it should have landed.
        redirect_port: u16,
        /// What happened instead.
        detail: String,
    },
    /// There is no way out in either family.
    #[error(
        "no route leads out of this network namespace, so nothing can be dialled to prove the redirect; \
         is the pod's network up?"
    )]
    NoRoute,
    /// Listening for the test connection failed.
    #[error("listening on {address} for the test connection: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Dials one address a family and sees whether it lands on the redirect port. Takes at most a few seconds.
///
/// # Errors
/// [`VerifyError`] when a connection that should have been redirected was not.
pub async fn verify(expectation: &Expectation) -> Result<Findings, VerifyError> {
    let v4 = ADDRESSES_V4.map(IpAddr::V4);
    let v6 = ADDRESSES_V6.map(IpAddr::V6);
    let findings = Findings {
        v4: verify_family(&v4, IpAddr::V4(Ipv4Addr::LOCALHOST), expectation).await?,
        v6: verify_family(&v6, IpAddr::V6(Ipv6Addr::LOCALHOST), expectation).await?,
    };
    if findings.v4 == Finding::Unreachable && findings.v6 == Finding::Unreachable {
        return Err(VerifyError::NoRoute);
    }
    Ok(findings)
}

async fn verify_family(
    addresses: &[IpAddr],
    loopback: IpAddr,
    expectation: &Expectation,
) -> Result<Finding, VerifyError> {
    let Some(target) = target(addresses, expectation) else {
        return Ok(Finding::AllSkipped);
    };
    let landing = SocketAddr::new(loopback, expectation.redirect_port);
    let listener = match TcpListener::bind(landing).await {
        Ok(listener) => Some(listener),
        // The proxy is up already.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        // IPv6 is off on this node: there is nothing to redirect.
        Err(error) if is_absent_family(&error) => return Ok(Finding::Unreachable),
        Err(source) => {
            return Err(VerifyError::Listen {
                address: landing,
                source,
            });
        }
    };
    let failed = |detail: String| VerifyError::NotRedirected {
        target,
        redirect_port: expectation.redirect_port,
        detail,
    };
    let client = match timeout(PATIENCE, TcpStream::connect(target)).await {
        Ok(Ok(client)) => client,
        // A way out that ends at a router is one: had it been redirected, nobody would have asked the router.
        Ok(Err(error)) if is_unroutable(&error) && !has_route(target).await => {
            return Ok(Finding::Unreachable);
        }
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no answer within {PATIENCE:?}"))),
    };
    let landed = match &listener {
        Some(listener) => timeout(PATIENCE, arrival(listener, target)).await.is_ok(),
        None => is_listed(&client, expectation.redirect_port).map_err(|e| failed(e.to_string()))?,
    };
    if landed {
        Ok(Finding::Redirected(target))
    } else {
        Err(failed("someone else answered".to_owned()))
    }
}

/// The first address and port that the rules do not skip.
fn target(addresses: &[IpAddr], expectation: &Expectation) -> Option<SocketAddr> {
    let skipped = |ip: &IpAddr| expectation.skip_cidrs.iter().any(|cidr| cidr.contains(*ip));
    let skipped_port = |port: &u16| expectation.skip_ports.iter().any(|r| r.contains(*port));
    let address = addresses.iter().find(|ip| !skipped(ip))?;
    let port = PORTS.iter().find(|port| !skipped_port(port))?;
    Some(SocketAddr::new(*address, *port))
}

/// Accepts until the connection to `target` comes in. Others are dropped: before the proxy is up they would have been
/// refused as well.
async fn arrival(listener: &TcpListener, target: SocketAddr) {
    loop {
        if let Ok((accepted, _)) = listener.accept().await
            && original_dst::of(&accepted).is_ok_and(|destination| destination == target)
        {
            return;
        }
    }
}

/// Whether the other end of `client` is a socket on `port` in this namespace.
fn is_listed(client: &TcpStream, port: u16) -> io::Result<bool> {
    let local = client.local_addr()?;
    let mut is_listed = false;
    tcp_table::each(local.is_ipv4(), |row| {
        is_listed |= row.local.port() == port && row.remote.port() == local.port();
    })?;
    Ok(is_listed)
}

fn is_absent_family(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    matches!(error.raw_os_error(), Some(EADDRNOTAVAIL | EAFNOSUPPORT))
}

fn is_unroutable(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EHOSTUNREACH, ENETUNREACH};
    matches!(
        error.raw_os_error(),
        Some(ENETUNREACH | EHOSTUNREACH | EADDRNOTAVAIL)
    )
}

/// Whether this machine itself knows a way to an address. Nothing is sent.
async fn has_route(target: SocketAddr) -> bool {
    let unspecified: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    match UdpSocket::bind((unspecified, 0)).await {
        Ok(socket) => socket.connect(target).await.is_ok(),
        Err(error) => !is_absent_family(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectation(skip_ports: &[&str], skip_cidrs: &[&str]) -> Expectation {
        Expectation {
            redirect_port: 19401,
            skip_ports: skip_ports.iter().map(|p| p.parse().unwrap()).collect(),
            skip_cidrs: skip_cidrs.iter().map(|c| c.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn what_the_rules_skip_is_not_dialled() {
        let v4 = ADDRESSES_V4.map(IpAddr::V4);
        let all = expectation(&["20001"], &["198.51.100.0/24"]);
        assert_eq!(target(&v4, &all), Some("203.0.113.1:80".parse().unwrap()));
        assert_eq!(target(&v4, &expectation(&[], &["0.0.0.0/0"])), None);
        assert_eq!(target(&v4, &expectation(&["1-65535"], &[])), None);
    }
}
