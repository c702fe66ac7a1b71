//! Connections into the application's namespace, made from the host's network.
//!
//! A socket belongs to the namespace it was made in. So the keeper makes one inside, marked so that the redirect leaves
//! it alone, and hands it over; connecting it from here then reaches the application's own ports.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::handover::{Channel, FromKeeper, ToKeeper};

/// Longest wait for a socket. The keeper answers within a tenth of a millisecond unless it is stopped.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for a connection on the namespace's loopback: only a full accept queue takes time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The way into one application's namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inside(Arc<Mutex<Requests>>);

#[derive(Debug)]
struct Requests {
    channel: Channel,
    last: u64,
}

impl Inside {
    /// Asks for sockets on `channel`.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self(Arc::new(Mutex::new(Requests { channel, last: 0 })))
    }

    /// Whether an application may mean itself by `destination`: only then is it worth asking inside when nobody
    /// answers outside.
    #[must_use]
    pub fn may_serve(destination: SocketAddr) -> bool {
        let ip = destination.ip().to_canonical();
        ip.is_loopback() || ip.is_unspecified()
    }

    /// Connects to `destination` inside the namespace.
    ///
    /// # Errors
    /// What connecting said; [`io::ErrorKind::TimedOut`] when it said nothing; [`io::ErrorKind::NotConnected`] when
    /// the namespace is gone.
    pub async fn connect(&self, destination: SocketAddr) -> io::Result<TcpStream> {
        let requests = Arc::clone(&self.0);
        let ipv6 = destination.is_ipv6();
        // A short wait on a local socket, off the runtime: the keeper may be stopped by a debugger.
        let made = tokio::task::spawn_blocking(move || {
            let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.socket(ipv6)
        });
        let socket = made.await.map_err(io::Error::other)??;
        let socket = TcpSocket::from_std_stream(socket.into());
        tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(destination))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Connects to `port` on the namespace's loopback, IPv4 first.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); of the two families, what IPv4 said.
    pub async fn connect_port(&self, port: u16) -> io::Result<TcpStream> {
        let v4 = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
        let v6 = SocketAddr::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), port);
        match self.connect(v4).await {
            Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                self.connect(v6).await.map_err(|_| refused)
            }
            other => other,
        }
    }
}

impl Requests {
    fn socket(&mut self, ipv6: bool) -> io::Result<OwnedFd> {
        self.last += 1;
        let request = self.last;
        self.channel
            .send(&ToKeeper::Socket { request, ipv6 }, &[])?;
        loop {
            let (answer, mut descriptors) = self
                .channel
                .receive_within(SOCKET_TIMEOUT)?
                .ok_or(io::ErrorKind::NotConnected)?;
            match answer {
                FromKeeper::Socket { request: number } if number == request => {
                    return descriptors
                        .pop()
                        .ok_or_else(|| io::ErrorKind::InvalidData.into());
                }
                FromKeeper::NoSocket {
                    request: number,
                    errno,
                } if number == request => return Err(io::Error::from_raw_os_error(errno)),
                // An answer that came too late for the one who asked: its socket is closed here.
                FromKeeper::Socket { .. } | FromKeeper::NoSocket { .. } => {}
                FromKeeper::Ready { .. }
                | FromKeeper::Failed { .. }
                | FromKeeper::Started { .. }
                | FromKeeper::NotStarted { .. }
                | FromKeeper::Ended(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}
