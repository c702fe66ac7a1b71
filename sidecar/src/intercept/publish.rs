//! `--publish`: makes a port that the application listens on, in its namespace, reachable from the host.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::inside::Inside;

/// Most connections at a time through one published port; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;

/// Pause after a failed accept: descriptors run short, and only time brings some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A port to publish: `PORT`, `HOSTPORT:PORT`, `ADDRESS:PORT` or `ADDRESS:HOSTPORT:PORT`.
///
/// Without an address it is published on loopback, IPv4 and IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// The host's address; loopback when absent.
    pub address: Option<IpAddr>,
    /// The host's port. 0: any free one.
    pub host_port: u16,
    /// The application's port.
    pub port: u16,
}

/// A text that names no port to publish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a port to publish; expected PORT, HOSTPORT:PORT, ADDRESS:PORT or ADDRESS:HOSTPORT:PORT"
)]
pub struct ParsePublishError(String);

impl FromStr for Publish {
    type Err = ParsePublishError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParsePublishError(text.to_owned());
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, text),
        };
        let port: u16 = port.parse().map_err(|_| bad())?;
        if port == 0 {
            return Err(bad());
        }
        let address_of = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
            match bare {
                Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6),
                None => text.parse::<Ipv4Addr>().map(IpAddr::V4),
            }
            .map_err(|_| bad())
        };
        let (address, host_port) = match host {
            None => (None, port),
            Some(host) => match (host.parse::<u16>(), host.rsplit_once(':')) {
                (Ok(host_port), _) => (None, host_port),
                (Err(_), Some((address, host_port))) if !host.ends_with(']') => (
                    Some(address_of(address)?),
                    host_port.parse().map_err(|_| bad())?,
                ),
                _ => (Some(address_of(host)?), port),
            },
        };
        Ok(Self {
            address,
            host_port,
            port,
        })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", SocketAddr::new(address, self.host_port))?,
            None => write!(f, "{}", self.host_port)?,
        }
        write!(f, ":{}", self.port)
    }
}

/// A published port whose listeners are open.
#[derive(Debug)]
pub struct Published {
    /// The application's port.
    pub port: u16,
    /// On the host; not blocking.
    pub listeners: Vec<std::net::TcpListener>,
}

impl Published {
    /// Opens the host's side.
    ///
    /// # Errors
    /// When the host's port is taken, or not ours to take.
    pub fn open(publish: Publish) -> io::Result<Self> {
        let listen = |ip: IpAddr, port: u16| {
            let listener = std::net::TcpListener::bind((ip, port))?;
            listener.set_nonblocking(true)?;
            io::Result::Ok(listener)
        };
        let mut listeners = Vec::new();
        if let Some(address) = publish.address {
            listeners.push(listen(address, publish.host_port)?);
        } else {
            let v4 = listen(IpAddr::V4(Ipv4Addr::LOCALHOST), publish.host_port)?;
            let host_port = v4.local_addr()?.port();
            listeners.push(v4);
            // Where there is no IPv6, or someone else has its port, IPv4 has to do.
            listeners.extend(listen(IpAddr::V6(Ipv6Addr::LOCALHOST), host_port).ok());
        }
        Ok(Self {
            port: publish.port,
            listeners,
        })
    }
}

/// Counts the connections through published ports, so that the last bytes of an application that has ended are not
/// cut off.
#[derive(Debug, Clone, Default)]
pub struct Relays(Arc<AtomicUsize>);

/// One connection, for as long as it lives.
#[derive(Debug)]
struct Relay(Relays);

impl Relays {
    /// How many there are.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn begin(&self) -> Relay {
        self.0.fetch_add(1, Ordering::AcqRel);
        Relay(self.clone())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Passes connections of `listener` on to `port` inside, until dropped.
///
/// # Errors
/// When the listener cannot be used by the runtime.
pub async fn serve(
    listener: std::net::TcpListener,
    port: u16,
    inside: Inside,
    open: Relays,
) -> io::Result<std::convert::Infallible> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Relays end with the listener: dropping the set aborts them.
    let mut relays = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        while relays.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                let (inside, counted) = (inside.clone(), open.begin());
                relays.spawn(async move {
                    relay(client, port, &inside).await;
                    drop((counted, place));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting on a published port failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Copies in both directions, each to its own end; what breaks is passed on as a reset.
async fn relay(mut client: TcpStream, port: u16, inside: &Inside) {
    let mut server = match inside.connect_port(port).await {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(port, %error, "the application does not answer on its published port");
            reset(&client);
            return;
        }
    };
    for side in [&client, &server] {
        // Only latency is at stake.
        drop(side.set_nodelay(true));
    }
    if tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .is_err()
    {
        reset(&client);
        reset(&server);
    }
}

/// Makes the close that follows a reset, so that the other end does not take it for a proper end.
fn reset(socket: &TcpStream) {
    drop(socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_to_publish_are_parsed() {
        let v4 = |text: &str| Some(IpAddr::V4(text.parse().unwrap()));
        let v6 = |text: &str| Some(IpAddr::V6(text.parse().unwrap()));
        for (text, address, host_port, port) in [
            ("8080", None, 8080, 8080),
            ("9090:8080", None, 9090, 8080),
            ("0:8080", None, 0, 8080),
            ("0.0.0.0:8080", v4("0.0.0.0"), 8080, 8080),
            ("127.0.0.1:9090:8080", v4("127.0.0.1"), 9090, 8080),
            ("[::]:8080", v6("::"), 8080, 8080),
            ("[::1]:9090:8080", v6("::1"), 9090, 8080),
        ] {
            let expected = Publish {
                address,
                host_port,
                port,
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in [
            "", "0", "x", "8080:", ":8080", "70000", "::1:8080", "a:1:2", "1:2:3",
        ] {
            assert!(bad.parse::<Publish>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_taken_port_is_an_error_and_a_free_one_listens_on_loopback() {
        let publish: Publish = "0:8080".parse().unwrap();
        let published = Published::open(publish).unwrap();
        let address = published.listeners[0].local_addr().unwrap();
        assert!(address.ip().is_loopback());
        let again = Publish {
            host_port: address.port(),
            ..publish
        };
        let error = Published::open(again).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
