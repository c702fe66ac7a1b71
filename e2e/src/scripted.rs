//! Servers whose every byte the test decides: one thread a connection, blocking sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http1::{Connection, Message};

/// A listening server. Its threads end with the test process.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Answers every connection to a loopback port by `script`, which also gets the connection's number from 0.
    pub fn start(script: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1:0", script)
    }

    /// As [`Self::start`], on an address of the caller's choice.
    pub fn start_on(bind: &str, script: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener =
            TcpListener::bind(bind).unwrap_or_else(|error| panic!("binding {bind}: {error}"));
        Self::over(listener, script)
    }

    /// As [`Self::start`], for a listener that is there already, such as one of another network namespace.
    pub fn over(
        listener: TcpListener,
        script: impl Fn(TcpStream, usize) + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().expect("it is bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                std::thread::spawn(move || script(stream, number));
            }
        });
        Self { addr, accepted }
    }

    /// A server that reads HTTP/1.1 requests and answers each with the bytes that `script` makes of it. An empty answer
    /// closes the connection.
    pub fn http(script: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |stream, _| {
            let mut connection = Connection::over(stream);
            // Ends when the client closes or breaks the connection.
            while let Ok(request) = connection.request() {
                let answer = script(&request);
                if answer.is_empty() || connection.send(answer).is_err() {
                    return;
                }
            }
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Closes a connection with a reset instead of an orderly end.
pub fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("a TCP socket");
    drop(socket);
}

/// An address on which nothing listens.
pub fn closed_addr() -> SocketAddr {
    crate::weir::free_addr()
}

/// Whether an error says that the peer broke the connection rather than ended it.
pub fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
