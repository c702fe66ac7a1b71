//! Serves the control API over a Unix socket, and over loopback TCP when asked to.
//!
//! [`Server::bind`] takes the sockets, [`Server::serve`] answers on them. A caller is known by the user id that the
//! kernel vouches for ([`access`]), or over TCP by a token; everything else is [`api`], which does not know the way in.

mod access;
mod api;
mod connection;
mod introspect;
mod live;
mod policy;
mod refusal;
mod unix_socket;
mod watch;

pub use access::TcpOptions;
pub use connection::Counts;
pub use introspect::{Introspect, UnknownLogLevel};

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use nix::unistd::geteuid;

use crate::store::Store;
use access::{Token, Uids};
use unix_socket::UnixSocket;

/// The API's description: `OpenAPI` 3.1, JSON.
pub const OPENAPI: &str = include_str!("server/openapi.json");

/// Where the control API listens, and to whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// Path of the Unix socket; its directory has to exist.
    pub socket: PathBuf,
    /// User ids that may call over the Unix socket; all others get 403.
    pub uids: Vec<u32>,
    /// Loopback TCP beside the socket. None: not opened.
    pub tcp: Option<TcpOptions>,
    /// Where requests are counted.
    pub counts: Arc<Counts>,
}

impl Options {
    /// Listens at `socket` for root and for the user that this process runs as.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self {
            socket,
            uids: vec![0, geteuid().as_raw()],
            tcp: None,
            counts: Arc::default(),
        }
    }
}

/// The control API could not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody answers on the socket already.
    #[error("{}: another weir answers there; give this one its own --control-socket", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has the socket's name.
    #[error("{}: exists and is no socket; remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// No client could name the socket.
    #[error("{}: longer than the path of a socket may be; choose a shorter one", .0.display())]
    TooLong(PathBuf),
    /// The socket could not be made.
    #[error("{}: {source}; does its directory exist, and may this user write there?", path.display())]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TCP address is reachable from elsewhere.
    #[error("{0}: the control API listens on loopback only")]
    NotLoopback(SocketAddr),
    /// The TCP address could not be bound.
    #[error("{address}: {source}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no usable token.
    #[error("{}: {detail}", path.display())]
    Token {
        /// The token file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

/// The control API, bound and ready to be served.
#[derive(Debug)]
pub struct Server {
    unix: UnixSocket,
    uids: Uids,
    tcp: Option<(tokio::net::TcpListener, Token)>,
    router: axum::Router,
    counts: Arc<Counts>,
}

impl Server {
    /// Takes the sockets. Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], which says what to do.
    pub fn bind(
        options: Options,
        store: Arc<Store>,
        proxy: Arc<dyn Introspect>,
    ) -> Result<Self, BindError> {
        let tcp = options.tcp.map(access::bind_tcp).transpose()?;
        Ok(Self {
            unix: UnixSocket::bind(options.socket)?,
            uids: Uids::new(options.uids),
            tcp,
            router: api::router(store, proxy),
            counts: options.counts,
        })
    }

    /// Where TCP is served, if it is.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        let (listener, _) = self.tcp.as_ref()?;
        listener.local_addr().ok()
    }

    /// Answers until `shutdown` is there, and then for as long as short requests need.
    ///
    /// The socket's file is removed when this returns or is dropped.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        connection::serve(self, shutdown).await;
    }
}
