//! DNS for the application's namespace: passes its queries over UDP on to the host's resolvers.
//!
//! Whatever server the application asks, on any address, its question arrives at our socket; the kernel gives our
//! answer the asked server's address. Messages are passed on as they are, but for a look at their header. DNS over TCP
//! needs nothing here: it is intercepted like any other TCP.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The host's resolver configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Most questions that wait for an answer; beyond it questions are dropped, as a resolver under load would.
///
/// Each holds a socket of its own, so that an answer can only come from the resolver that was asked, to a port that is
/// not known to others; a quarter of the usual 1024 descriptors may go there.
pub const IN_FLIGHT_MAX: usize = 256;

/// Longest wait for one resolver, before the next one is asked. Applications ask again after 5 s by default.
pub const RESOLVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Most resolvers that are used, as in resolv.conf(5) (`MAXNS`).
const RESOLVERS_MAX: usize = 3;

/// Longest message over UDP, in bytes.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// Length of a DNS header, in bytes (RFC 1035 §4.1.1).
const HEADER_BYTES: usize = 12;

const PORT: u16 = 53;

/// The resolvers of a resolv.conf(5), read again when the file changes: laptops change networks.
#[derive(Debug)]
pub struct Resolvers {
    path: PathBuf,
    port: u16,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Option<(SystemTime, u64)>,
    addresses: Vec<SocketAddr>,
}

impl Resolvers {
    /// Those of this host.
    #[must_use]
    pub fn of_host() -> Self {
        Self::of(RESOLV_CONF)
    }

    /// Those of the file at `path`.
    #[must_use]
    pub fn of(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            port: PORT,
            known: Mutex::default(),
        }
    }

    /// The same, asked on another port than 53.
    #[must_use]
    pub fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// In the order in which they are to be asked; the local host when the file names none.
    #[must_use]
    pub fn current(&self) -> Vec<SocketAddr> {
        let metadata = fs::metadata(&self.path).ok();
        let stamp = metadata.and_then(|m| Some((m.modified().ok()?, m.len())));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.stamp != stamp || known.addresses.is_empty() {
            let text = fs::read_to_string(&self.path).unwrap_or_default();
            known.addresses = parse(&text, self.port);
            known.stamp = stamp;
        }
        known.addresses.clone()
    }
}

/// The `nameserver` lines of a resolv.conf(5).
fn parse(text: &str, port: u16) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver"))
                .then(|| words.next())
                .flatten()
        })
        .filter_map(|word| address(word, port))
        .take(RESOLVERS_MAX)
        .collect();
    if found.is_empty() {
        found.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    found
}

/// An address, of a link-local one with its interface: `fe80::1%eth0`.
fn address(text: &str, port: u16) -> Option<SocketAddr> {
    match text.split_once('%') {
        None => text.parse::<IpAddr>().ok().map(|ip| (ip, port).into()),
        Some((ip, interface)) => {
            let ip: Ipv6Addr = ip.parse().ok()?;
            let scope = nix::net::if_::if_nametoindex(interface).ok()?;
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
    }
}

/// Answers questions on `socket` until dropped. Questions that are none, answers that fit none, are dropped.
///
/// # Errors
/// When the socket cannot be used by the runtime, or breaks.
pub async fn relay(
    socket: std::net::UdpSocket,
    resolvers: Arc<Resolvers>,
) -> io::Result<std::convert::Infallible> {
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    // Open questions end with the relay: dropping the set aborts them.
    let mut asking = JoinSet::new();
    let mut buffer = vec![0_u8; MESSAGE_BYTES_MAX];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A client that is gone: the kernel reports its ICMP message on this socket. Nothing is broken.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        while asking.try_join_next().is_some() {}
        let Some(question) = buffer.get(..length).filter(|message| is_question(message)) else {
            tracing::debug!(%client, length, "dropped a datagram that is no DNS question");
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(%client, "dropped a DNS question: too many are open");
            continue;
        };
        let (question, socket) = (question.to_vec(), Arc::clone(&socket));
        let resolvers = resolvers.current();
        asking.spawn(async move {
            if let Some(answer) = ask(&question, &resolvers).await {
                // A client that is gone needs no answer.
                drop(socket.send_to(&answer, client).await);
            }
            drop(place);
        });
    }
}

/// Asks one resolver after the other; `None` when none answered.
async fn ask(question: &[u8], resolvers: &[SocketAddr]) -> Option<Vec<u8>> {
    for resolver in resolvers {
        match timeout(RESOLVER_TIMEOUT, ask_one(question, *resolver)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%resolver, %error, "a resolver failed"),
            Err(_) => tracing::debug!(%resolver, "a resolver did not answer"),
        }
    }
    None
}

async fn ask_one(question: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let any = if resolver.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: the kernel drops what comes from elsewhere, and reports a refusal.
    socket.connect(resolver).await?;
    socket.send(question).await?;
    loop {
        // A refusal makes the socket erroneous, not readable.
        socket.ready(Interest::READABLE | Interest::ERROR).await?;
        match receive(&socket) {
            Ok(answer) if is_answer(&answer, question) => return Ok(answer),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => refusal(&socket)?,
            Err(error) => return Err(error),
        }
    }
}

/// Fails with the error that an ICMP message left on the socket, if one did.
fn refusal(socket: &UdpSocket) -> io::Result<()> {
    let checked = socket.try_io(Interest::ERROR, || match socket.take_error()? {
        Some(error) => Err(error),
        // Tells the runtime that the error is gone.
        None => Err(io::ErrorKind::WouldBlock.into()),
    });
    match checked {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

/// Apart, so that the large buffer lives for a moment only, and not in every waiting task.
fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; MESSAGE_BYTES_MAX];
    let length = socket.try_recv(&mut buffer)?;
    buffer.truncate(length);
    buffer.shrink_to_fit();
    Ok(buffer)
}

/// A whole header without the QR bit (RFC 1035 §4.1.1: 0 is a query).
fn is_question(message: &[u8]) -> bool {
    message.len() >= HEADER_BYTES && message.get(2).is_some_and(|flags| flags & 0x80 == 0)
}

/// A whole header with the QR bit and the question's id.
fn is_answer(message: &[u8], question: &[u8]) -> bool {
    message.len() >= HEADER_BYTES
        && message.get(2).is_some_and(|flags| flags & 0x80 != 0)
        && message.get(..2) == question.get(..2)
}

#[cfg(test)]
mod tests;
