//! Accepts the application's connections and owns what is done with them.
//!
//! Accepting pauses while as many connections are open as there may be or the process is near the memory that it may
//! have, and backs off while the system is short of descriptors or memory; connections that are open are not touched by
//! any of these. A drain ends the accepting; then [`Listener::run`] waits for its connections, and dropping it ends them.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use super::connections::Connections;
use crate::telemetry::metrics::AcceptPause;

/// Sockets that are listened on, of one worker.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<tokio::net::TcpListener>,
    connections: Arc<Connections>,
}

impl Listener {
    /// Takes over sockets that are already bound and listening. Must be called in the worker's runtime.
    ///
    /// # Errors
    /// When a socket cannot be made non-blocking, or the runtime has no room for it.
    pub fn new(sockets: Vec<TcpListener>, connections: Arc<Connections>) -> io::Result<Self> {
        let sockets = sockets.into_iter().map(|socket| {
            socket.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(socket)
        });
        Ok(Self {
            sockets: sockets.collect::<io::Result<_>>()?,
            connections,
        })
    }

    /// Accepts until `stop` is ready, serves each connection in a task of its own, then waits for all of them.
    ///
    /// Dropping the future ends all connections at once.
    pub async fn run<S, F>(self, stop: impl Future<Output = ()>, serve: S)
    where
        S: FnMut(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let Self {
            sockets,
            connections,
        } = self;
        let mut next = 0;
        let accept = |cx: &mut Context<'_>| poll_accept(&sockets, &mut next, cx);
        let mut tasks = JoinSet::new();
        {
            let accepting = Accepting {
                connections: &connections,
            };
            tokio::select! {
                biased;
                () = stop => {}
                () = accepting.run(accept, &mut tasks, serve) => {}
            }
        }
        // The application's next connection is refused, instead of waiting in a backlog that nobody reads.
        drop(sockets);
        while let Some(ended) = tasks.join_next().await {
            note_end(ended);
        }
    }
}

fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked; the others go on");
    }
}

struct Accepting<'a> {
    connections: &'a Connections,
}

impl Accepting<'_> {
    /// Accepts for ever. `accept` polls for the next connection.
    async fn run<A, S, F>(&self, mut accept: A, tasks: &mut JoinSet<()>, mut serve: S)
    where
        A: FnMut(&mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>>,
        S: FnMut(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut backoff = Backoff::default();
        let mut is_told = false;
        loop {
            if self.connections.memory().is_short() {
                self.pauses(AcceptPause::Memory);
                let enough = self.connections.memory().becomes(false);
                let enough = tokio::time::timeout(PAUSE_MAX, enough);
                // Too late: one comes in all the same.
                drop(self.reaping(tasks, enough).await);
            }
            if self.connections.is_full() {
                self.pauses(AcceptPause::Connections);
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        "as many connections are open as there may be, and further ones wait; are WEIR_CONNECTIONS_MAX or the limit of open files too low?"
                    );
                }
            }
            let place = self.reaping(tasks, self.connections.place()).await;
            let accepted = std::future::poll_fn(&mut accept);
            match self.reaping(tasks, accepted).await {
                Ok((socket, peer)) => {
                    backoff.reset();
                    let serving = serve(socket, peer);
                    tasks.spawn(async move {
                        serving.await;
                        drop(place);
                    });
                }
                Err(error) => match reaction(&error) {
                    None if backoff.may_go_on() => {}
                    reason => {
                        let reason = reason.unwrap_or(AcceptPause::Other);
                        let pause = backoff.pause();
                        self.pauses(reason);
                        tracing::warn!(%error, ?pause, "accepting pauses; is the limit of open files or of memory too low?");
                        self.reaping(tasks, sleep(pause)).await;
                    }
                },
            }
        }
    }

    fn pauses(&self, reason: AcceptPause) {
        self.connections.metrics().accept_paused(reason);
    }

    /// Waits for `future`, and meanwhile frees the tasks that have ended.
    async fn reaping<T>(&self, tasks: &mut JoinSet<()>, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                // Ended tasks first: what they held may be what is waited for.
                biased;
                Some(ended) = tasks.join_next() => note_end(ended),
                value = future.as_mut() => return value,
            }
        }
    }
}

/// Polls all sockets, another one first each time, so that none of them starves the others.
fn poll_accept(
    sockets: &[tokio::net::TcpListener],
    next: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    *next = next.wrapping_add(1) % sockets.len().max(1);
    let (last, first) = sockets.split_at_checked(*next).unwrap_or((sockets, &[]));
    for socket in first.iter().chain(last) {
        if let Poll::Ready(accepted) = socket.poll_accept(cx) {
            return Poll::Ready(accepted);
        }
    }
    Poll::Pending
}

/// What the system is short of, so that trying again at once would spin. None: only this connection is gone.
///
/// accept(2): besides ECONNABORTED, Linux reports errors of the new connection itself.
fn reaction(error: &io::Error) -> Option<AcceptPause> {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(
            Errno::ECONNABORTED
            | Errno::ECONNRESET
            | Errno::EINTR
            | Errno::EPROTO
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENOPROTOOPT
            | Errno::ENONET
            | Errno::EOPNOTSUPP
            | Errno::ETIMEDOUT,
        ) => None,
        Some(Errno::EMFILE | Errno::ENFILE) => Some(AcceptPause::Descriptors),
        Some(Errno::ENOMEM | Errno::ENOBUFS) => Some(AcceptPause::Memory),
        _ => Some(AcceptPause::Other),
    }
}

/// Pauses of 10 ms, twice as long each time, up to one second.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    pauses: u32,
}

impl Backoff {
    /// Whether one more failure in a row may pass without a pause.
    fn may_go_on(&mut self) -> bool {
        self.failures += 1;
        self.failures < FAILURES_IN_A_ROW_MAX
    }

    fn pause(&mut self) -> Duration {
        let pause = PAUSE_MIN.saturating_mul(1 << self.pauses.min(10));
        self.pauses += 1;
        pause.min(PAUSE_MAX)
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Connections that may be gone in a row before accepting pauses: a burst of them is usual, an endless one is a fault.
const FAILURES_IN_A_ROW_MAX: u32 = 64;

#[cfg(test)]
mod tests;
