//! One connection to an upstream: opened, driven until it ends, closed when idle.
//!
//! No call is sent before the peer's SETTINGS have arrived. That costs a cold connection one round trip, and buys three
//! things: the peer's stream limit is known before it can be overrun, a server that does not speak HTTP/2 is found out
//! before it could have seen a request, and so every failure up to here is provably unprocessed.
//!
//! No HTTP/2 PING is sent: gRPC servers answer clients that ping more often than every five minutes with GOAWAY
//! `too_many_pings`. Dead peers are found by TCP (keepalive and user timeout, set where the socket is made); until then
//! a connection on which calls are given up in silence gets no new ones, see [`Endpoint::given_up`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::endpoint::{Endpoint, Retired};
use super::failure;
use crate::error::UpstreamError;
use crate::http::header_limit::{Blocks, HEADER_TABLE_BYTES, Size};
use crate::http::http2_frames::Scanner;
use crate::memory::Memory;
use crate::telemetry::metrics::{ConnectionGuard, Side, Speaks};
use crate::upstream::connect::{Settings, connect};

/// Opens a connection for `endpoint`, and drives it until it ends.
pub(super) async fn run(endpoint: Weak<Endpoint>, addr: SocketAddr, settings: Arc<Settings>) {
    let opened = open(addr, &settings).await;
    let Some(living) = endpoint.upgrade() else {
        return;
    };
    match opened {
        Err(error) => living.opening_failed(&error),
        Ok((sender, connection, heard)) => {
            let id = living.opened(sender, heard, connection.max_concurrent_send_streams());
            // The pool's end must not wait for this connection's.
            drop(living);
            Driver::new(endpoint, id, connection).await;
        }
    }
}

type Opened = (
    SendRequest<Bytes>,
    Connection<Socket, Bytes>,
    Arc<AtomicU64>,
);

async fn open(addr: SocketAddr, settings: &Settings) -> Result<Opened, UpstreamError> {
    let io = Socket {
        io: connect(addr, settings).await?,
        heard: Arc::default(),
        frames: Scanner::default(),
        blocks: Blocks::within(settings.header_limit()),
        memory: Arc::clone(&settings.memory),
        counted: settings.metrics.connection(Side::Upstream, Speaks::Http2),
    };
    let heard = Arc::clone(&io.heard);
    timeout(settings.connect_timeout, greet(io, settings))
        .await
        .map_err(|_| UpstreamError::ConnectTimeout {
            addr,
            after: settings.connect_timeout,
        })?
        .map(|(sender, connection)| (sender, connection, heard))
        .map_err(|error| failure::of_opening(addr, &error))
}

/// Sends the preface, and waits for the peer's SETTINGS.
async fn greet(
    io: Socket,
    settings: &Settings,
) -> Result<(SendRequest<Bytes>, Connection<Socket, Bytes>), h2::Error> {
    let (sender, mut connection) = builder(settings).handshake::<_, Bytes>(io).await?;
    std::future::poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        // The peer closed before it said anything: no protocol was broken, and nothing sent.
        Poll::Ready(Ok(())) => Poll::Ready(Err(closed())),
        Poll::Pending if connection.max_concurrent_send_streams() == SETTINGS_UNSEEN => {
            Poll::Pending
        }
        Poll::Pending => Poll::Ready(Ok(())),
    })
    .await?;
    Ok((sender, connection))
}

fn closed() -> h2::Error {
    h2::Error::from(h2::Reason::NO_ERROR)
}

/// Every limit that the crate has, set: what is unset is unlimited there.
fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_concurrent_streams(0)
        .initial_max_send_streams(SETTINGS_UNSEEN)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(settings.header_limit().bytes_max_of_h2())
        .header_table_size(HEADER_TABLE_BYTES.into())
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .reset_stream_duration(RESET_STREAM_DURATION)
        // Counts frames that arrive for calls given up long ago, over the connection's whole life. Under timeouts these
        // are everyday traffic, and ending the connection would fail the calls that are still wanted.
        .max_local_error_reset_streams(None)
        .max_pending_accept_reset_streams(1)
        .data_frame_budget(DATA_FRAME_BUDGET);
    builder
}

/// A socket that counts how often the peer was heard, and its bytes, and takes no header block without end; while memory
/// is short, no large trailers.
struct Socket {
    io: TcpStream,
    heard: Arc<AtomicU64>,
    frames: Scanner,
    blocks: Blocks,
    memory: Arc<Memory>,
    counted: ConnectionGuard,
}

impl Socket {
    /// What came with a header block that is not taken goes no further, and the connection ends without GOAWAY: an error
    /// of its bytes is all that the crate can be told.
    ///
    /// No window holds header blocks back: trailers wait in the crate until they are read, in some fifty times as much
    /// memory as they were sent in.
    fn came(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.heard.fetch_add(1, Ordering::Relaxed);
        self.counted
            .received(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let Self {
            frames,
            blocks,
            memory,
            ..
        } = self;
        let mut refused = None;
        frames.feed(bytes, |frame| match blocks.see(frame) {
            Size::FarOver => {
                refused = Some("a header section far larger than WEIR_HEADER_BYTES_MAX");
            }
            Size::LargeEnd if memory.is_short() => {
                refused = Some("large trailers while memory is short (WEIR_MEMORY_MAX)");
            }
            Size::LargeEnd | Size::Small => {}
        });
        refused.map_or(Ok(()), |why| {
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        })
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.counted.sent(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let came = self.came(buf.filled().get(before..).unwrap_or_default());
        if came.is_err() {
            buf.set_filled(before);
        }
        Poll::Ready(came)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Drives a connection; ready when it has ended.
struct Driver {
    endpoint: Weak<Endpoint>,
    id: u64,
    connection: Connection<Socket, Bytes>,
    streams_max: usize,
    idle: Pin<Box<Sleep>>,
    /// How often the connection had been used when the idle timer was set.
    uses: u64,
}

impl Driver {
    fn new(endpoint: Weak<Endpoint>, id: u64, connection: Connection<Socket, Bytes>) -> Self {
        Self {
            endpoint,
            id,
            streams_max: connection.max_concurrent_send_streams(),
            connection,
            idle: Box::pin(sleep(IDLE_TIMEOUT)),
            uses: 0,
        }
    }

    fn check_idle(&mut self, cx: &mut Context<'_>) {
        while self.idle.as_mut().poll(cx).is_ready() {
            let Some(endpoint) = self.endpoint.upgrade() else {
                return;
            };
            match endpoint.retire_unless_used_since(self.id, self.uses) {
                // The connection closes itself: no stream is open, and the last sender is gone.
                Retired::Yes => return,
                Retired::No { uses } => self.uses = uses,
            }
            self.idle.as_mut().reset(Instant::now() + IDLE_TIMEOUT);
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Poll::Ready(ended) = Pin::new(&mut this.connection).poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
            }
            return Poll::Ready(());
        }
        let streams_max = this.connection.max_concurrent_send_streams();
        if streams_max != this.streams_max {
            this.streams_max = streams_max;
            if let Some(endpoint) = this.endpoint.upgrade() {
                endpoint.streams_max_changed(this.id, streams_max);
            }
        }
        this.check_idle(cx);
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.ended(self.id);
        }
    }
}

/// What the crate takes the peer's stream limit for until its SETTINGS arrive; no peer sends just this number.
const SETTINGS_UNSEEN: usize = 0x5EED_0001;

/// Bytes of one response that may wait for the application: 128 KiB carry 64 MB/s over 2 ms.
const STREAM_WINDOW: u32 = 128 * 1024;

/// Bytes of all responses of a connection that may wait. As many stalled readers as this holds stream windows (64) stop
/// the others on the connection; with the protocol's own 64 KiB a single one would.
const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;

/// The protocol's default (RFC 9113 §6.5.2): smaller frames let streams share a connection more evenly.
const FRAME_BYTES_MAX: u32 = 16 * 1024;

/// Bytes of one request that may wait for the socket.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Streams remembered after we gave them up, so that their late frames are told from broken ones; some 500 bytes each.
const RESET_STREAMS_MAX: usize = 512;

/// How long they are remembered.
const RESET_STREAM_DURATION: Duration = Duration::from_secs(5);

/// Bytes that the bookkeeping of unread small DATA frames may take: a stream window full of 5-byte messages, and more.
const DATA_FRAME_BUDGET: usize = 8 * 1024 * 1024;

/// How long a connection without streams is kept; at most twice as long, since it is looked at in these steps.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
