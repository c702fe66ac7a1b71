//! Carries bytes both ways between two connections until both are done.
//!
//! Used for what weir forwards without reading it: opaque TCP, upgraded connections, CONNECT. Each direction ends on its
//! own, so a half-closed connection stays one. A reset stays a reset: whatever ends a connection other than both sides'
//! own end resets both legs, so that nobody takes a part for the whole.
//!
//! A direction has no buffer of its own. It waits until its source has bytes, moves them through a buffer that all
//! connections of the thread share, and keeps only what the destination does not take at once. While it holds such a
//! rest it reads nothing, so that a slow reader stops a fast writer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncWrite as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::intercept::detect::prefixed::Prefixed;
use crate::telemetry::metrics::Meter;

/// One end of a tunnel.
#[derive(Debug)]
pub struct Leg {
    /// The connection.
    pub socket: TcpStream,
    /// Bytes that were read from it before the tunnel began; they go first.
    pub read_ahead: Bytes,
    /// Counts its bytes at the socket, where its owner does not.
    pub meter: Option<Meter>,
}

impl Leg {
    /// The same, with `bytes` that were read from it later than those it already brings.
    #[must_use]
    pub fn and_read(mut self, bytes: Bytes) -> Self {
        if self.read_ahead.is_empty() {
            self.read_ahead = bytes;
        } else if !bytes.is_empty() {
            self.read_ahead = [self.read_ahead, bytes].concat().into();
        }
        self
    }
}

impl From<TcpStream> for Leg {
    fn from(socket: TcpStream) -> Self {
        Self {
            socket,
            read_ahead: Bytes::new(),
            meter: None,
        }
    }
}

impl From<Prefixed> for Leg {
    fn from(prefixed: Prefixed) -> Self {
        let meter = prefixed.meter().cloned();
        let (read_ahead, socket) = prefixed.into_parts();
        Self {
            socket,
            read_ahead,
            meter,
        }
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// From the application to the server.
    Upstream,
    /// From the server to the application.
    Downstream,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Both sides ended their direction.
    Closed,
    /// The application reset it, or is gone.
    ResetByApplication,
    /// The server reset it, or is gone.
    ResetByServer,
}

/// Carries bytes until both directions have ended or one leg is gone. Dropping the future resets both legs.
///
/// `count` is told of each write.
pub async fn splice<C>(downstream: Leg, upstream: Leg, count: C) -> End
where
    C: Fn(Towards, u64),
{
    let mut sockets = Sockets {
        downstream: downstream.socket,
        upstream: upstream.socket,
        ended_well: false,
    };
    let (application, server) = (downstream.meter, upstream.meter);
    let (from_application, to_application) = sockets.downstream.split();
    let (from_server, to_server) = sockets.upstream.split();
    let mut up = Direction {
        source: from_application,
        destination: to_server,
        rest: downstream.read_ahead,
        meters: (application.clone(), server.clone()),
        count: |written| count(Towards::Upstream, written),
    };
    let mut down = Direction {
        source: from_server,
        destination: to_application,
        rest: upstream.read_ahead,
        meters: (server, application),
        count: |written| count(Towards::Downstream, written),
    };
    let end = carry(&mut up, &mut down).await;
    sockets.ended_well = end == End::Closed;
    end
}

/// Both legs. Dropping them resets both, unless they ended well.
struct Sockets {
    downstream: TcpStream,
    upstream: TcpStream,
    ended_well: bool,
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if !self.ended_well {
            reset_when_dropped(&self.downstream);
            reset_when_dropped(&self.upstream);
        }
    }
}

/// Ends a connection with a reset, as the system does for one that was refused.
pub fn reset(socket: TcpStream) {
    reset_when_dropped(&socket);
    drop(socket);
}

fn reset_when_dropped(socket: &TcpStream) {
    // Fails only on a socket that is no longer connected; its peer knows already.
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "resetting a connection");
    }
}

async fn carry<U, D>(up: &mut Direction<'_, U>, down: &mut Direction<'_, D>) -> End
where
    U: Fn(u64),
    D: Fn(u64),
{
    let first = poll_fn(|cx| match up.poll(cx) {
        Poll::Ready(ended) => Poll::Ready(First::Up(ended)),
        Poll::Pending => down.poll(cx).map(First::Down),
    });
    match first.await {
        First::Up(Err(Broken::Source)) => End::ResetByApplication,
        First::Down(Err(Broken::Source)) => End::ResetByServer,
        First::Up(Ok(())) => match finish(down, &up.source).await {
            Ok(()) => End::Closed,
            Err(Broken::Source) => End::ResetByServer,
            Err(Broken::Destination) => End::ResetByApplication,
        },
        First::Down(Ok(())) => match finish(up, &down.source).await {
            Ok(()) => End::Closed,
            Err(Broken::Source) => End::ResetByApplication,
            Err(Broken::Destination) => End::ResetByServer,
        },
        // A destination that is gone may, as a source, still have bytes that came before its reset. Once they are
        // passed on the direction ends by itself: nothing more can come.
        First::Up(Err(Broken::Destination)) => {
            let _gone_either_way = poll_fn(|cx| down.poll(cx)).await;
            End::ResetByServer
        }
        First::Down(Err(Broken::Destination)) => {
            let _gone_either_way = poll_fn(|cx| up.poll(cx)).await;
            End::ResetByApplication
        }
    }
}

/// Runs the direction that is left. `ended` is its destination's own direction, which has ended: watched for a reset.
async fn finish<C: Fn(u64)>(
    direction: &mut Direction<'_, C>,
    ended: &ReadHalf<'_>,
) -> Result<(), Broken> {
    let mut reset = std::pin::pin!(ended.ready(Interest::ERROR));
    poll_fn(|cx| match direction.poll(cx) {
        Poll::Ready(ended) => Poll::Ready(ended),
        Poll::Pending => reset.as_mut().poll(cx).map(|_| Err(Broken::Destination)),
    })
    .await
}

/// Which direction ended first, and how.
enum First {
    Up(Result<(), Broken>),
    Down(Result<(), Broken>),
}

/// Why a direction ended before its source did.
#[derive(Debug)]
enum Broken {
    /// Its source is gone.
    Source,
    /// Its destination is gone.
    Destination,
}

/// Bytes on their way from one leg to the other.
struct Direction<'a, C> {
    source: ReadHalf<'a>,
    destination: WriteHalf<'a>,
    /// Read, and not yet written. While there is any, nothing more is read.
    rest: Bytes,
    /// The source's and the destination's.
    meters: (Option<Meter>, Option<Meter>),
    /// Told of each write.
    count: C,
}

impl<C: Fn(u64)> Direction<'_, C> {
    /// Moves bytes until the source ends, and passes its end on.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if self.rest.is_empty() {
                if ready!(self.poll_move(cx))? == 0 {
                    let destination: &TcpStream = self.destination.as_ref();
                    let shut = SockRef::from(destination).shutdown(Shutdown::Write);
                    return Poll::Ready(shut.map_err(|_| Broken::Destination));
                }
            } else {
                let written = Pin::new(&mut self.destination).poll_write(cx, &self.rest);
                let written = ready!(written).map_err(|_| Broken::Destination)?;
                self.note(written);
                self.rest.advance(written);
                if self.rest.is_empty() {
                    // Gives the allocation back now: the connection may be idle for days.
                    self.rest = Bytes::new();
                }
            }
        }
    }

    /// One read, and one write of what it brought. Answers the number of bytes read: none at the source's end.
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let read = Pin::new(&mut self.source).poll_read(cx, &mut buffer);
            ready!(read).map_err(|_| Broken::Source)?;
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(0));
            }
            if let (Some(meter), _) = &self.meters {
                meter.received(read.len());
            }
            let written = match Pin::new(&mut self.destination).poll_write(cx, read) {
                Poll::Ready(written) => written.map_err(|_| Broken::Destination)?,
                Poll::Pending => 0,
            };
            self.note(written);
            if let Some(rest @ [_, ..]) = read.get(written..) {
                self.rest = Bytes::copy_from_slice(rest);
            }
            Poll::Ready(Ok(read.len()))
        })
    }

    fn note(&self, written: usize) {
        if let (_, Some(meter)) = &self.meters {
            meter.sent(written);
        }
        let written = u64::try_from(written).unwrap_or(u64::MAX);
        (self.count)(written);
    }
}

thread_local! {
    /// Shared by all connections of a worker; borrowed only between two awaits.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// Most bytes moved at a time, and the most that a direction holds for a destination that is slower than its source.
const SCRATCH_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests;
