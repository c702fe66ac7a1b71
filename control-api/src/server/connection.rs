//! Accepts connections and answers requests on them, all within bounds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::Server;
use super::access::{Caller, Token};
use super::refusal::Refusal;
use crate::view::ControlCounts;

/// What the control API's server has done since it was bound.
#[derive(Debug, Default)]
pub struct Counts {
    requests: AtomicU64,
    refused_callers: AtomicU64,
    refused_connections: AtomicU64,
}

impl Counts {
    /// What was counted so far.
    #[must_use]
    pub fn view(&self) -> ControlCounts {
        ControlCounts {
            requests: self.requests.load(Ordering::Relaxed),
            refused_callers: self.refused_callers.load(Ordering::Relaxed),
            refused_connections: self.refused_connections.load(Ordering::Relaxed),
        }
    }
}

/// What is known about whoever is at the other end of a connection.
#[derive(Clone)]
enum Peer {
    /// The kernel has vouched for the caller.
    Known(Caller),
    /// The kernel has vouched for somebody who may not call.
    Refused(Refusal),
    /// Every request has to prove itself.
    Unknown(Token),
}

/// How many connections may be open at a time. Each kind of caller has its own places, so that those who may not call
/// cannot keep out those who may.
struct Limits {
    known: Arc<Semaphore>,
    refused: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
}

impl Limits {
    fn new() -> Self {
        Self {
            known: Arc::new(Semaphore::new(KNOWN_MAX)),
            refused: Arc::new(Semaphore::new(REFUSED_MAX)),
            unknown: Arc::new(Semaphore::new(UNKNOWN_MAX)),
        }
    }

    /// A place for a caller. None: they are all taken.
    fn take(&self, peer: &Peer, counts: &Counts) -> Option<OwnedSemaphorePermit> {
        let kind = match peer {
            Peer::Known(_) => &self.known,
            Peer::Refused(_) => &self.refused,
            Peer::Unknown(_) => &self.unknown,
        };
        let place = Arc::clone(kind).try_acquire_owned().ok();
        if place.is_none() {
            counts.refused_connections.fetch_add(1, Ordering::Relaxed);
        }
        place
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Shared {
    router: Router,
    counts: Arc<Counts>,
    stopping: watch::Receiver<bool>,
}

/// Accepts until `shutdown`, then lets what has begun finish within [`GRACE`].
pub(super) async fn serve(server: Server, shutdown: impl Future<Output = ()>) {
    let Server {
        unix,
        uids,
        tcp,
        router,
        counts,
    } = server;
    let (stop, stopping) = watch::channel(false);
    let shared = Shared {
        router,
        counts,
        stopping,
    };
    let limits = Limits::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            // Shutting down comes first, or a stream of callers could put it off.
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = unix.listener.accept() => {
                let Some(stream) = settled(accepted).await else {
                    continue;
                };
                let peer = uids.admit(&stream).map_or_else(Peer::Refused, Peer::Known);
                if let Some(place) = limits.take(&peer, &shared.counts) {
                    connections.spawn(serve_one(stream, peer, shared.clone(), place));
                }
            }
            (accepted, token) = accept_tcp(tcp.as_ref()) => {
                let Some(stream) = settled(accepted).await else {
                    continue;
                };
                let peer = Peer::Unknown(token);
                if let Some(place) = limits.take(&peer, &shared.counts) {
                    connections.spawn(serve_one(stream, peer, shared.clone(), place));
                }
            }
        }
    }
    drop(unix);
    stop.send_replace(true);
    // Whoever still watches or reads then is cut off: the set aborts them when it is dropped.
    let finished = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(GRACE, finished).await);
}

async fn accept_tcp(
    tcp: Option<&(TcpListener, Token)>,
) -> (io::Result<(TcpStream, std::net::SocketAddr)>, Token) {
    match tcp {
        Some((listener, token)) => (listener.accept().await, token.clone()),
        None => std::future::pending().await,
    }
}

/// A new connection. None: it could not be accepted.
async fn settled<S, A>(accepted: io::Result<(S, A)>) -> Option<S> {
    match accepted {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            // Out of descriptors, most likely: they come back, and asking at once would only burn time.
            tracing::warn!(%error, "the control API cannot accept");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn serve_one<S>(stream: S, peer: Peer, shared: Shared, _place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Shared {
        router,
        counts,
        mut stopping,
    } = shared;
    let service = service_fn(move |request| {
        let answered = answer(request, peer.clone(), router.clone(), Arc::clone(&counts));
        async { Ok::<_, std::convert::Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            // Finishing comes first: a connection that has ended needs no stop.
            biased;
            ended = connection.as_mut() => return ended,
            _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    match tokio::time::timeout(CONNECTION_TIME_MAX, served).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a control API connection broke"),
    }
}

async fn answer(
    mut request: Request<Incoming>,
    peer: Peer,
    router: Router,
    counts: Arc<Counts>,
) -> Response {
    counts.requests.fetch_add(1, Ordering::Relaxed);
    let caller = match peer {
        Peer::Known(caller) => Ok(caller),
        Peer::Refused(refusal) => Err(refusal),
        Peer::Unknown(token) => token.admit(request.headers()),
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => {
            let refused = counts.refused_callers.fetch_add(1, Ordering::Relaxed) + 1;
            // Logged ever more rarely: whoever may not call may not fill the log either.
            if refused.is_power_of_two() {
                let reason = refusal.problem().detail;
                tracing::warn!(refused, reason, "control API caller refused");
            }
            return refusal.into_response();
        }
    };
    request.extensions_mut().insert(caller);
    match tokio::time::timeout(REQUEST_TIME_MAX, router.oneshot(request)).await {
        Ok(Ok(response)) => response,
        Err(_) => Refusal::Late.into_response(),
    }
}

/// Most connections of callers that may call; more are closed at once.
const KNOWN_MAX: usize = 64;
/// Most connections of callers that may not, each of which is told so.
const REFUSED_MAX: usize = 8;
/// Most TCP connections: who they are is known only once a request is there.
const UNKNOWN_MAX: usize = 16;
/// Longest a connection may take for a request's head, and longest it may be idle.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Largest request head, in bytes.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Longest a request may take from its head to the response's head.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest life of a connection. It bounds what a caller that stops reading can hold; watchers resume.
const CONNECTION_TIME_MAX: Duration = Duration::from_hours(1);
/// How long requests may take to finish after a shutdown.
const GRACE: Duration = Duration::from_secs(1);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
