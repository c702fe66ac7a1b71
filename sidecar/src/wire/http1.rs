//! Serves HTTP/1 to the application.
//!
//! The bytes pass the [guard], hyper makes requests of them, and each becomes one [call](call::answer) of the proxy.
//! A response that switches protocols ends HTTP on the connection: what follows is a [tunnel](super::tunnel).

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tunnel::{self, Abort, Leg, Traffic};
use crate::drain::Draining;
use crate::http::body::Body;
use crate::proxy::{Arrival, Proxy};
use crate::stack::ResponseBody;
use call::{Session, Tunnel};
use guard::Guard;
use link::Link;

mod call;
mod guard;
mod link;
mod scan;
mod target;
mod violation;

pub use violation::{VIOLATIONS, Violation, Violations};

/// Serves one connection until it ends, or until a drain has let it finish.
pub async fn serve<IO>(io: IO, arrival: Arrival, proxy: Proxy, draining: Draining)
where
    IO: AsyncRead + AsyncWrite + Abort + Send + Unpin + 'static,
{
    let dialled = arrival.original_destination;
    let shared = Arc::new((proxy, arrival));
    let answer = move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.0.answer(request, &shared.1).await }
    };
    serve_by(answer, io, dialled, draining).await;
}

/// The same for any `answer`.
async fn serve_by<A, F, IO>(answer: A, io: IO, dialled: SocketAddr, mut draining: Draining)
where
    A: Fn(Request<Body>) -> F + Send + Sync,
    F: Future<Output = Response<ResponseBody>> + Send,
    IO: AsyncRead + AsyncWrite + Abort + Send + Unpin + 'static,
{
    let session = Arc::new(Session::new(answer, dialled));
    let link = Arc::clone(&session.link);
    let guard = Guard::new(io, HEAD_BYTES_MAX, Arc::clone(&link), &VIOLATIONS);
    let calls = Arc::clone(&session);
    let service = service_fn(move |request| call::answer(Arc::clone(&calls), request));
    let connection = builder(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        // The connection goes first: where it has just ended, there is nothing to drain.
        biased;
        ended = connection.as_mut() => ended,
        () = draining.started() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        count(&error, &link);
    }
    if let Some(tunnel) = session.take_tunnel() {
        carry::<IO>(tunnel).await;
    }
}

/// hyper's side: no field of its own, no timer of its own (the guard's costs nothing per request), bounded buffers.
fn builder(head_bytes_max: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_header_size(head_bytes_max)
        .max_buf_size(head_bytes_max.max(BUFFER_BYTES_MAX));
    builder
}

/// Counts what hyper has refused by itself.
fn count(error: &hyper::Error, link: &Link) {
    if link.is_refused() || !error.is_parse() {
        return;
    }
    VIOLATIONS.count(if error.is_parse_too_large() {
        Violation::HeadTooLarge
    } else {
        Violation::Syntax
    });
}

/// Carries the bytes of a connection that HTTP has left.
async fn carry<IO>(tunnel: Tunnel)
where
    IO: AsyncRead + AsyncWrite + Abort + Send + Unpin + 'static,
{
    let (Ok(downstream), Some(upstream)) =
        (tunnel.downstream.await, tunnel.upstream.complete().await)
    else {
        return;
    };
    let Ok(parts) = downstream.downcast::<TokioIo<Guard<IO>>>() else {
        return;
    };
    let (io, held) = parts.io.into_inner().into_inner();
    let downstream = Leg {
        io,
        read_ahead: joined(parts.read_buf, held),
    };
    let upstream = Leg {
        io: upstream.stream,
        read_ahead: upstream.read_ahead,
    };
    // Its failure has been passed on to both peers.
    let _ended = tunnel::splice(downstream, upstream, &Traffic::default()).await;
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second,
        (_, true) => first,
        _ => [first, second].concat().into(),
    }
}

/// Largest header section of a request, in bytes; over it 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most bytes that hyper buffers in each direction of a connection, unless the header limit asks for more.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
