//! Serves HTTP/1 to the application.
//!
//! The bytes pass the [guard], hyper makes requests of them, and each becomes one [call](call::answer) of the proxy.
//! A response that switches protocols ends HTTP on the connection: what follows is a [tunnel](super::tunnel).

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper::service::{HttpService, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tunnel::{Leg, reset, splice};
use crate::drain::{Draining, Watch};
use crate::http::body::Body;
use crate::intercept::client_end::{ClientEnd, Ends};
use crate::proxy::{Arrival, Proxy};
use crate::stack::ResponseBody;
use call::Session;
use guard::Guard;
use link::Link;
use rest::Rest;

mod call;
mod guard;
mod half_closed;
mod link;
mod rest;
mod scan;
mod target;
mod violation;

pub(super) use call::Tunnel;
pub(super) use target::to_origin_form;
pub use violation::{VIOLATIONS, Violation, Violations};

/// What a connection may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest header section of a request, in bytes; over it 431.
    pub header_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes_max: 64 * 1024,
        }
    }
}

/// Serves one connection until it ends, or until a drain has let it finish.
pub async fn serve<IO>(io: IO, arrival: Arrival, proxy: Proxy, draining: Draining)
where
    IO: AsyncRead + AsyncWrite + Into<Leg> + Send + Unpin + 'static,
{
    let client = Ends::default().of(arrival.peer, arrival.original_destination);
    serve_within(Limits::default(), io, client, arrival, proxy, draining).await;
}

/// [`serve`], with limits of the caller's.
pub async fn serve_within<IO>(
    limits: Limits,
    io: IO,
    client: ClientEnd,
    arrival: Arrival,
    proxy: Proxy,
    draining: Draining,
) where
    IO: AsyncRead + AsyncWrite + Into<Leg> + Send + Unpin + 'static,
{
    let dialled = arrival.original_destination;
    let shared = Arc::new((proxy, arrival));
    let answer = move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.0.answer(request, &shared.1).await }
    };
    let serving = serve_until_tunnel(answer, limits, io, client, Some(dialled), draining);
    if let Some(tunnel) = serving.await {
        tunnel.carry::<IO>().await;
    }
}

/// Serves one connection with any `answer`, until it ends or becomes a tunnel.
///
/// `dialled` is the server that all its requests go to, where that is one.
pub(super) async fn serve_until_tunnel<A, F, IO>(
    answer: A,
    limits: Limits,
    io: IO,
    client: ClientEnd,
    dialled: Option<SocketAddr>,
    draining: Draining,
) -> Option<Tunnel>
where
    A: Fn(Request<Body>) -> F + Send + Sync,
    F: Future<Output = Response<ResponseBody>> + Send,
    IO: AsyncRead + AsyncWrite + Into<Leg> + Send + Unpin + 'static,
{
    let session = Arc::new(Session::new(answer, dialled));
    let link = Arc::clone(&session.link);
    let head_bytes_max = limits.header_bytes_max;
    let mut guard = Guard::new(io, client, head_bytes_max, Arc::clone(&link), &VIOLATIONS);
    let mut drain = Watch::new(draining);
    loop {
        let calls = Arc::clone(&session);
        let service =
            service_fn(move |request| call::answer(Arc::clone(&calls), calls.begin(), request));
        let connection = builder(limits)
            .serve_connection(TokioIo::new(guard), service)
            .with_upgrades();
        match until_rest(connection, &mut drain, &link).await {
            Some(resting) => guard = resting,
            None => break,
        }
        let is_awake = poll_fn(|cx| match drain.poll(cx) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => guard.poll_wake(cx),
        });
        if !is_awake.await {
            break;
        }
    }
    session.take_tunnel()
}

/// Lets a connection run until it ends, or has nothing to do: then it is taken apart, and its socket comes back.
async fn until_rest<IO, S>(
    mut connection: UpgradeableConnection<TokioIo<Guard<IO>>, S>,
    drain: &mut Watch,
    link: &Link,
) -> Option<Guard<IO>>
where
    IO: AsyncRead + AsyncWrite + Into<Leg> + Send + Unpin + 'static,
    S: HttpService<Incoming, ResBody = call::Outgoing, Error = Infallible> + Unpin,
{
    let mut rest = Rest::default();
    let mut is_draining = false;
    let ended = poll_fn(|cx| {
        let mut connection = Pin::new(&mut connection);
        // The connection goes first: where it has just ended, there is nothing to drain.
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(ended));
        }
        if !is_draining && drain.poll(cx).is_ready() {
            is_draining = true;
            connection.as_mut().graceful_shutdown();
            return connection.poll(cx).map(Some);
        }
        if is_draining {
            return Poll::Pending;
        }
        rest.poll(cx, link).map(|()| None)
    })
    .await;
    let rests = ended.is_none();
    if let Some(Err(error)) = ended {
        count(&error, link);
    }
    if !rests && !link.is_torn() {
        return None;
    }
    let parts = connection.into_parts()?;
    let mut guard = parts.io.into_inner();
    if rests {
        guard.read_again(parts.read_buf);
        return Some(guard);
    }
    let leg: Leg = guard.into_inner().0.into();
    reset(leg.socket);
    None
}

/// hyper's side: no field of its own, no timer of its own (the guard's costs nothing per request), bounded buffers.
fn builder(limits: Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .auto_date_header(false)
        // RFC 9110 §5.1 makes names case-insensitive, but not every application does.
        .preserve_header_case(true)
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(limits.header_bytes_max.max(BUFFER_BYTES_MAX));
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

impl Tunnel {
    /// Carries the bytes of a connection that HTTP has left.
    pub(super) async fn carry<IO>(self)
    where
        IO: AsyncRead + AsyncWrite + Into<Leg> + Send + Unpin + 'static,
    {
        let Self {
            downstream,
            upstream,
        } = self;
        let (Some(downstream), Some(upstream)) =
            (leg_of::<IO>(downstream).await, upstream.complete().await)
        else {
            return;
        };
        // Counted as open until the tunnel ends.
        let counted = upstream.counted;
        let upstream = Leg {
            socket: upstream.stream,
            read_ahead: upstream.read_ahead,
            meter: Some(counted.meter()),
        };
        // How it ended has been passed on to both peers.
        let _end = splice(downstream, upstream, |_, _| {}).await;
    }

    /// The application's side alone, where the other is not a server's response.
    pub(super) async fn downstream<IO>(self) -> Option<Leg>
    where
        IO: AsyncRead + AsyncWrite + Into<Leg> + Send + Unpin + 'static,
    {
        leg_of::<IO>(self.downstream).await
    }
}

/// The application's connection, and all that was read from it behind the last request.
async fn leg_of<IO>(upgrade: OnUpgrade) -> Option<Leg>
where
    IO: AsyncRead + AsyncWrite + Into<Leg> + Send + Unpin + 'static,
{
    let parts = upgrade.await.ok()?.downcast::<TokioIo<Guard<IO>>>().ok()?;
    let (io, held) = parts.io.into_inner().into_inner();
    let leg: Leg = io.into();
    // hyper has read before the guard held anything back, and the guard before what is still unread.
    let unread = leg.read_ahead;
    let leg = Leg {
        read_ahead: parts.read_buf,
        ..leg
    };
    Some(leg.and_read(held).and_read(unread))
}

/// Most bytes that hyper buffers in each direction of a connection, unless the header limit asks for more.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
