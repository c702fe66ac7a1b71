//! Opens a TCP connection to an upstream, with the socket options that every leg has.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::error::UpstreamError;
use crate::http::header_limit::HeaderLimit;
use crate::intercept::inside::Inside;
use crate::memory::Memory;
use crate::telemetry::metrics::Metrics;

/// What connections to upstreams are made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Longest time for the TCP handshake.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept for the next call.
    pub idle_timeout: Duration,
    /// Most unused connections kept per address.
    pub idle_max: usize,
    /// Most HTTP/1 connections of a worker, to all addresses: while there are more, none is kept unused.
    pub open_max: usize,
    /// Largest header section accepted, in bytes.
    pub header_bytes_max: usize,
    /// The way into the namespace of `weir run`, where the application itself listens.
    pub inside: Option<Inside>,
    /// What their buffers take part of.
    pub memory: Arc<Memory>,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(4),
            idle_max: 256,
            open_max: usize::MAX,
            header_bytes_max: 64 * 1024,
            inside: None,
            memory: Arc::default(),
            metrics: Arc::default(),
        }
    }
}

impl Settings {
    /// What header sections of HTTP/2 may have.
    #[must_use]
    pub fn header_limit(&self) -> HeaderLimit {
        HeaderLimit::new(self.header_bytes_max, || {})
    }
}

/// A new connection to `addr`, with [`socket_options`] set.
///
/// # Errors
/// [`UpstreamError::Connect`] or [`UpstreamError::ConnectTimeout`]; nothing was sent in either case.
pub async fn connect(addr: SocketAddr, settings: &Settings) -> Result<TcpStream, UpstreamError> {
    let after = settings.connect_timeout;
    let stream = match tokio::time::timeout(after, dial(addr, settings.inside.as_ref())).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => return Err(UpstreamError::Connect { addr, source }),
        Err(_elapsed) => return Err(UpstreamError::ConnectTimeout { addr, after }),
    };
    refuse_self_connect(&stream)
        .and_then(|()| options(&stream, UPSTREAM_USER_TIMEOUT))
        .map_err(|source| UpstreamError::Connect { addr, source })?;
    Ok(stream)
}

/// Dials outside, and inside where nobody listens outside: an application may call itself.
async fn dial(addr: SocketAddr, inside: Option<&Inside>) -> io::Result<TcpStream> {
    match (TcpStream::connect(addr).await, inside) {
        (Err(refused), Some(inside))
            if refused.kind() == io::ErrorKind::ConnectionRefused && Inside::may_serve(addr) =>
        {
            inside.connect(addr).await.map_err(|_| refused)
        }
        (connected, _) => connected,
    }
}

/// Sets what an accepted connection of the application has: no delay, keepalive, and a bound on unacknowledged bytes.
///
/// # Errors
/// When the socket refuses an option, which a connected TCP socket on Linux does not.
pub fn socket_options(accepted: &TcpStream) -> io::Result<()> {
    options(accepted, DOWNSTREAM_USER_TIMEOUT)
}

fn options(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )?;
    socket.set_tcp_user_timeout(Some(user_timeout))
}

/// Dialling a local port that nobody listens on can meet the dialling socket itself (RFC 9293 §3.5, simultaneous open),
/// which would then be fed its own requests.
fn refuse_self_connect(stream: &TcpStream) -> io::Result<()> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

/// Silence after which the peer is asked whether it is still there. Below the 350 s after which common cloud NATs
/// forget a connection, and seldom enough to cost nothing.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
/// Between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered questions after which the connection is dead.
const KEEPALIVE_RETRIES: u32 = 3;
/// Longest time for which bytes sent to a server may stay unacknowledged (RFC 5482): the system's own limit is over
/// 15 minutes, for which every call on a connection to a vanished host would hang.
///
/// Not shorter, because Linux counts the time for which a living peer does not read as well (measured: a connection with
/// a closed window ends after this time): a database that makes its client wait for a lock must not be cut off.
const UPSTREAM_USER_TIMEOUT: Duration = Duration::from_mins(2);
/// The same towards the application. Its host is ours and cannot vanish, so this only ends connections of an application
/// that has stopped reading for good.
const DOWNSTREAM_USER_TIMEOUT: Duration = Duration::from_mins(15);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_has_the_options_of_every_leg() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect(listener.local_addr().unwrap(), &Settings::default())
            .await
            .unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(UPSTREAM_USER_TIMEOUT)
        );
        let (accepted, _) = listener.accept().await.unwrap();
        socket_options(&accepted).unwrap();
        assert_eq!(
            SockRef::from(&accepted).tcp_user_timeout().unwrap(),
            Some(DOWNSTREAM_USER_TIMEOUT)
        );
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);
        let error = connect(closed, &Settings::default()).await.unwrap_err();
        assert!(matches!(&error, UpstreamError::Connect { addr, .. } if *addr == closed));
    }

    #[tokio::test]
    async fn a_silent_handshake_ends_at_its_timeout() {
        // A listener whose backlog is full drops further SYNs.
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        let settings = Settings {
            connect_timeout: Duration::from_millis(50),
            ..Settings::default()
        };
        let mut held = Vec::new();
        let error = loop {
            match connect(addr, &settings).await {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 16, "the backlog never filled");
        };
        assert!(matches!(error, UpstreamError::ConnectTimeout { .. }));
    }
}
