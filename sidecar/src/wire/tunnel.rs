//! Carries bytes both ways between two connections until both are done.
//!
//! Used for what weir forwards without reading it: opaque TCP, upgraded connections, CONNECT. Each direction ends by
//! itself: an end of stream is passed on as a half-close while the other direction goes on. A reset stays a reset: when
//! either connection fails, both are aborted, so that neither peer can mistake a broken stream for a complete one.
//!
//! An idle tunnel holds no buffer: bytes are read into one scratch buffer of the thread and written from there; only
//! what the other side does not take at once is kept, and nothing more is read until it has gone.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::intercept::detect::prefixed::Prefixed;

/// A connection that can be ended so that its peer sees a reset and not an end of stream.
pub trait Abort {
    /// Makes the coming close a reset. What is still unsent is lost.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // A socket that refuses is closed by the system already.
        let _closed_already = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Abort for Prefixed {
    fn abort(&self) {
        self.socket().abort();
    }
}

#[cfg(test)]
impl Abort for tokio::io::DuplexStream {
    fn abort(&self) {}
}

/// One end of a tunnel.
#[derive(Debug)]
pub struct Leg<IO> {
    /// The connection.
    pub io: IO,
    /// Bytes that were read from it before the tunnel began; they go first.
    pub read_ahead: Bytes,
}

impl<IO> Leg<IO> {
    /// A leg from which nothing was read yet.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            read_ahead: Bytes::new(),
        }
    }
}

/// Bytes carried so far; read it at any time.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the application to the server.
    pub to_upstream: AtomicU64,
    /// From the server to the application.
    pub to_downstream: AtomicU64,
}

/// Carries bytes until both directions have ended, or either connection failed.
///
/// # Errors
/// The failure of either connection; both have then been aborted.
pub async fn splice<D, U>(downstream: Leg<D>, upstream: Leg<U>, traffic: &Traffic) -> io::Result<()>
where
    D: AsyncRead + AsyncWrite + Abort + Unpin,
    U: AsyncRead + AsyncWrite + Abort + Unpin,
{
    let (mut down, mut up) = (downstream.io, upstream.io);
    let mut outward = Direction::new(downstream.read_ahead);
    let mut inward = Direction::new(upstream.read_ahead);
    let result = poll_fn(|cx| {
        // Both are polled each time; the order does not matter, since neither can starve the other.
        let sent = outward.poll_carry(cx, &mut down, &mut up, &traffic.to_upstream)?;
        let received = inward.poll_carry(cx, &mut up, &mut down, &traffic.to_downstream)?;
        ready!(sent);
        ready!(received);
        Poll::Ready(Ok(()))
    })
    .await;
    if result.is_err() {
        down.abort();
        up.abort();
    }
    result
}

/// One direction's state.
#[derive(Debug)]
struct Direction {
    state: State,
    /// Read and not yet written.
    unsent: Bytes,
    /// Written and not yet flushed.
    unflushed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    ShuttingDown,
    Done,
}

impl Direction {
    fn new(read_ahead: Bytes) -> Self {
        Self {
            state: State::Open,
            unsent: read_ahead,
            unflushed: false,
        }
    }

    /// Carries what can be carried now; ready when the direction has ended.
    fn poll_carry(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        carried: &AtomicU64,
    ) -> Poll<io::Result<()>> {
        for _ in 0..READS_A_TURN {
            match self.state {
                State::Open => match self.poll_step(cx, from, to, carried)? {
                    Poll::Ready(Step::Moved) => {}
                    // Open => ShuttingDown
                    Poll::Ready(Step::End) => self.state = State::ShuttingDown,
                    Poll::Pending => return Poll::Pending,
                },
                State::ShuttingDown => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    // ShuttingDown => Done
                    self.state = State::Done;
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
        // More may be there at once: let other connections have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is held, or reads and writes once.
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        carried: &AtomicU64,
    ) -> Poll<io::Result<Step>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.unsent))?;
            self.unsent.advance(wrote(written, carried)?);
            self.unflushed = true;
        }
        let step = SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut read)? {
                Poll::Ready(()) if read.filled().is_empty() => Poll::Ready(Ok(Step::End)),
                Poll::Ready(()) => {
                    self.pass_on(cx, read.filled(), to, carried)?;
                    Poll::Ready(Ok(Step::Moved))
                }
                Poll::Pending => Poll::Pending::<io::Result<Step>>,
            }
        });
        // Before an end or a wait, what was written has to leave.
        if self.unflushed && !matches!(step, Poll::Ready(Ok(Step::Moved))) {
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            self.unflushed = false;
        }
        step
    }

    /// Writes as much of `bytes` as `to` takes at once, and keeps the rest.
    fn pass_on(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
        carried: &AtomicU64,
    ) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest)? {
                Poll::Ready(written) => rest.advance(wrote(written, carried)?),
                Poll::Pending => break,
            }
        }
        self.unflushed = true;
        self.unsent = Bytes::copy_from_slice(rest);
        Ok(())
    }
}

/// What one step of a direction came to.
enum Step {
    /// Bytes moved on, or are held to be moved.
    Moved,
    /// The reading side is at its end.
    End,
}

fn wrote(written: usize, carried: &AtomicU64) -> io::Result<usize> {
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    carried.fetch_add(
        u64::try_from(written).unwrap_or(u64::MAX),
        Ordering::Relaxed,
    );
    Ok(written)
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// One read's size, and the most a direction holds. Large enough that system calls are a small part of the copy.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Reads of one direction before other tasks have their turn.
const READS_A_TURN: usize = 8;

#[cfg(test)]
mod tests;
