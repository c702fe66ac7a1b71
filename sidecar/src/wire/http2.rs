//! Serves HTTP/2 to the application.
//!
//! One task reads the connection; each stream has a task that awaits its answer, sends it, and ends with its stream:
//! a reset by the application drops the answer at once, and with it all that it holds. When the connection ends, so do
//! its streams, and their tasks.
//!
//! Plain CONNECT is passed on like any call: both bodies stream until either side ends. Extended CONNECT (RFC 8441) is
//! not offered, since whether the upstream takes it is not known when our SETTINGS go out; clients then use HTTP/1.1.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::drain::Draining;
use crate::http::header_limit::{HEADER_TABLE_BYTES, HeaderLimit};
use crate::http::interim;
use crate::proxy::{Arrival, Proxy};

mod abuse;
mod stream;
#[cfg(test)]
mod tests;
mod watched;

pub use abuse::{VIOLATIONS, Violation, Violations};
use watched::{Seen, Watched};

/// What a connection may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest header section, in bytes as RFC 9113 §6.5.2 counts them: over it 431, in trailers the end of their
    /// call; far over it GOAWAY.
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
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    serve_within(Limits::default(), io, arrival, proxy, draining).await;
}

/// [`serve`], with limits of the caller's.
pub async fn serve_within<IO>(
    limits: Limits,
    io: IO,
    arrival: Arrival,
    proxy: Proxy,
    draining: Draining,
) where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let header_limit = HeaderLimit::new(limits.header_bytes_max, || {
        VIOLATIONS.count(Violation::HeaderLimit);
    });
    let seen = Arc::new(Seen::default());
    let io = Watched::new(io, header_limit, Arc::clone(&seen));
    let handshake = builder(header_limit).handshake::<_, Bytes>(io);
    let ended = match timeout(GREETING_TIMEOUT, handshake).await {
        Ok(Ok(connection)) => {
            let shared = stream::Shared::new(proxy, arrival, header_limit, Arc::clone(&seen));
            drive(connection, &seen, Arc::new(shared), draining).await
        }
        Ok(Err(error)) => Err(error),
        Err(_too_slow) => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an application's HTTP/2 connection ended");
        if let Some(violation) = abuse::of_connection(&error, seen.is_header_limit()) {
            VIOLATIONS.count(violation);
        }
    }
}

async fn drive<IO>(
    mut connection: Connection<Watched<IO>, Bytes>,
    seen: &Seen,
    shared: Arc<stream::Shared>,
    mut draining: Draining,
) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut drain = pin!(draining.started());
    let mut is_draining = false;
    let mut broken = pin!(seen.broken());
    // Dropped with the connection, and then they end, whatever they wait for.
    let mut streams = JoinSet::new();
    let (mut greeting, mut is_greeted) = (pin!(sleep(GREETING_TIMEOUT)), false);
    loop {
        tokio::select! {
            biased;
            never = reap(&mut streams) => match never {},
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                seen.accepted(respond.stream_id().as_u32());
                let answer = stream::answer(request, respond, Arc::clone(&shared));
                // Boxed: a task's future is moved several times, and all of it.
                streams.spawn(Box::pin(interim::scope(answer)));
            }
            reason = &mut broken => return end(connection, reason).await,
            () = &mut drain, if !is_draining => {
                is_draining = true;
                connection.graceful_shutdown();
            }
            () = &mut greeting, if !is_greeted => {
                is_greeted = seen.is_greeted();
                if !is_greeted {
                    return end(connection, Reason::SETTINGS_TIMEOUT).await;
                }
            }
        }
    }
}

/// Frees the tasks that have ended, as they do; never ready. Not a turn of the loop each: one look frees all of them.
async fn reap(streams: &mut JoinSet<()>) -> Infallible {
    poll_fn(|cx| {
        while let Poll::Ready(Some(ended)) = streams.poll_join_next(cx) {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a stream's task panicked; the others go on");
            }
        }
        Poll::Pending
    })
    .await
}

/// Ends a connection at once: its streams are told, GOAWAY is sent, the peer gets a moment to read it.
async fn end<IO>(
    mut connection: Connection<Watched<IO>, Bytes>,
    reason: Reason,
) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    connection.abrupt_shutdown(reason);
    let closed = poll_fn(|cx| connection.poll_closed(cx));
    let _its_end_was_ours = timeout(GOODBYE_TIMEOUT, closed).await;
    Ok(())
}

/// Every limit that the crate has, set: what is unset is unlimited there.
fn builder(header_limit: HeaderLimit) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(header_limit.bytes_max_of_h2())
        .header_table_size(HEADER_TABLE_BYTES.into())
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .reset_stream_duration(RESET_STREAM_DURATION)
        .max_local_error_reset_streams(Some(STREAM_ERRORS_MAX))
        .max_pending_accept_reset_streams(RESET_UNACCEPTED_MAX)
        .data_frame_budget(DATA_FRAME_BUDGET);
    builder
}

/// Streams of one connection that may be open at a time: the calls that a destination takes by default (1024), and as
/// many again that wait. Those must come in to be seen: a client that holds calls back gives them no priority, no
/// deadline and no early refusal.
const STREAMS_MAX: u32 = 2048;

/// Bytes of one request that may wait for the upstream. The application is on the same machine, so the protocol's own
/// 64 KiB carry a gigabyte a second.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes of all requests of a connection that may wait. Bodies of waiting calls are not read, so this bounds what a full
/// queue costs.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The protocol's default (RFC 9113 §6.5.2).
const FRAME_BYTES_MAX: u32 = 16 * 1024;

/// Bytes of one response that may wait for the socket.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Streams remembered after we reset them, so that their late frames are told from broken ones; some 500 bytes each.
const RESET_STREAMS_MAX: usize = 512;

/// How long they are remembered. A client on the same machine has long seen the reset.
const RESET_STREAM_DURATION: Duration = Duration::from_secs(2);

/// Malformed messages, and late frames of forgotten streams, over a connection's whole life.
const STREAM_ERRORS_MAX: usize = 10_000;

/// Streams that may be reset before they were looked at. More than a client cancels in one breath, and few enough to
/// keep: each is a request's head.
const RESET_UNACCEPTED_MAX: usize = 128;

/// Bytes that the bookkeeping of unread small DATA frames may take: some 16,000 messages that the upstream is slow to
/// take. The crate's own half of the connection's window is reached by 2,000.
const DATA_FRAME_BUDGET: usize = 4 * 1024 * 1024;

/// Longest wait for the client's preface and SETTINGS, which it sends first of all.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for a client to take the GOAWAY that ends its connection.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
