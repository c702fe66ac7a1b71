//! Where an intercepted connection was going before the redirect.
//!
//! The kernel keeps the answer in its connection tracking, and gives it to whoever holds the accepted socket: no
//! privilege is needed, and the socket's own namespace counts, not the caller's. That is why `weir run` can ask in the
//! host's network about a socket that was made in the application's.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;

use control_api::well_known::{CONTROL_PORT, EXPLICIT_PROXY_PORT, OUTBOUND_PORT};
use nix::errno::Errno;
use nix::sys::socket::{SockaddrIn, SockaddrIn6, getsockopt, sockopt};

/// Why a connection has no destination that we may dial.
#[derive(Debug, thiserror::Error)]
pub enum OriginalDstError {
    /// The connection is not known to connection tracking, so nothing redirected it.
    #[error(
        "the connection from {peer} was not redirected; are weir's rules installed? (`weir redirect --verify`)"
    )]
    NotRedirected {
        /// The other end, as far as it is known.
        peer: SocketAddr,
    },
    /// The application dialled one of our own ports. Passing it on would send it round in circles.
    #[error("{destination} is weir's own port, dialled directly; refused, for it would loop")]
    OwnPort {
        /// What was dialled.
        destination: SocketAddr,
    },
    /// The kernel would not say.
    #[error("reading the original destination: {0}")]
    Unreadable(#[source] io::Error),
}

/// The address that the application dialled; an IPv4-mapped one comes as IPv4.
///
/// # Errors
/// [`OriginalDstError`] when the connection was not redirected, or was dialled to ourselves.
pub fn of(socket: &(impl AsFd + PeerAddr)) -> Result<SocketAddr, OriginalDstError> {
    // A dual-stack listener accepts IPv4 on an IPv6 socket, and only the IPv4 lookup knows that connection.
    // So the lookup is tried in both families; the wrong one answers ENOENT, or that the option is unknown.
    let destination = match lookup_v4(socket) {
        Ok(found) => found,
        Err(first) => lookup_v6(socket).map_err(|second| undecided(socket, first, second))?,
    };
    if is_own(destination) {
        return Err(OriginalDstError::OwnPort { destination });
    }
    Ok(destination)
}

/// Whether `destination` is a port that we listen on ourselves: the redirect's, the explicit proxy's, the control API's.
///
/// They are bound on loopback only, so the same ports elsewhere are someone else's.
#[must_use]
pub fn is_own(destination: SocketAddr) -> bool {
    let address = destination.ip().to_canonical();
    (address.is_loopback() || address.is_unspecified())
        && [OUTBOUND_PORT, EXPLICIT_PROXY_PORT, CONTROL_PORT].contains(&destination.port())
}

/// A socket that knows its other end: tokio's and the standard library's.
pub trait PeerAddr {
    /// The other end.
    ///
    /// # Errors
    /// When the connection is already gone.
    fn peer(&self) -> io::Result<SocketAddr>;
}

impl PeerAddr for std::net::TcpStream {
    fn peer(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

impl PeerAddr for tokio::net::TcpStream {
    fn peer(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

fn lookup_v4(socket: &impl AsFd) -> Result<SocketAddr, Errno> {
    let found = SockaddrIn::from(getsockopt(socket, sockopt::OriginalDst)?);
    Ok(SocketAddr::V4(SocketAddrV4::from(found)))
}

fn lookup_v6(socket: &impl AsFd) -> Result<SocketAddr, Errno> {
    let found = SocketAddrV6::from(SockaddrIn6::from(getsockopt(
        socket,
        sockopt::Ip6tOriginalDst,
    )?));
    Ok(match found.ip().to_canonical() {
        IpAddr::V4(mapped) => SocketAddr::from((mapped, found.port())),
        IpAddr::V6(_) => SocketAddr::V6(found),
    })
}

fn undecided(socket: &impl PeerAddr, first: Errno, second: Errno) -> OriginalDstError {
    // ENOENT: not tracked. ENOPROTOOPT and EOPNOTSUPP: the kernel has no connection tracking for that family at all.
    let untracked = |errno| {
        matches!(
            errno,
            Errno::ENOENT | Errno::ENOPROTOOPT | Errno::EOPNOTSUPP
        )
    };
    match socket.peer() {
        Ok(peer) if untracked(first) && untracked(second) => {
            OriginalDstError::NotRedirected { peer }
        }
        Ok(_) if untracked(first) => OriginalDstError::Unreadable(second.into()),
        Ok(_) => OriginalDstError::Unreadable(first.into()),
        Err(gone) => OriginalDstError::Unreadable(gone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn own_ports_are_own_on_loopback_only() {
        for own in [
            "127.0.0.1:19401",
            "[::1]:19401",
            "0.0.0.0:19403",
            "[::ffff:127.0.0.1]:19404",
        ] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        for other in ["10.0.0.7:19401", "127.0.0.1:8080", "[2001:db8::1]:19401"] {
            assert!(!is_own(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_connection_that_nothing_redirected_is_an_error_or_names_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // With connection tracking active on the host, the kernel answers with the listener itself.
        match of(&accepted) {
            Ok(destination) => assert_eq!(destination, listener.local_addr().unwrap()),
            Err(error) => assert!(matches!(error, OriginalDstError::NotRedirected { .. })),
        }
    }
}
