//! The application's socket as hyper sees it: only bytes that have one meaning pass.
//!
//! What the [scanner](super::scan) objects to is replaced by bytes that hyper refuses in any state, so that the answer is
//! a 400 and a close, never a guess. Besides, the guard bounds the time of an unfinished header section, tells a half-close
//! from a client that has gone, and reads off what a refused client still sends, so that the refusal reaches it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::half_closed::HalfClosed;
use super::link::{Link, Phase};
use super::scan::{Objection, Scanner};
use super::violation::{Violation, Violations};
use crate::http::gather;
use crate::intercept::client_end::{ClientEnd, Holder};

/// A guarded connection of the application.
#[derive(Debug)]
pub(super) struct Guard<IO> {
    io: IO,
    client: ClientEnd,
    scanner: Scanner,
    link: Arc<Link>,
    violations: &'static Violations,
    passing: Passing,
    /// Read behind a request for another protocol, and not passed on before that is decided.
    held: Bytes,
    /// When the last message ended.
    message_ended: Option<Instant>,
    /// Runs while a header section is unfinished.
    head_timer: Option<Pin<Box<Sleep>>>,
    /// From a half-close on.
    half_closed: Option<HalfClosed>,
    /// Runs once the connection was shut down with bytes still to come.
    linger_timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// What the scanner lets pass.
    Scanned,
    /// Everything: it is no HTTP any more.
    Everything,
    /// Nothing until the call under way ends, and then the end of the stream.
    HalfClosed,
    /// What is left of this, and then the end of the stream.
    Refusal(&'static [u8]),
}

impl<IO> Guard<IO> {
    pub(super) fn new(
        io: IO,
        client: ClientEnd,
        head_bytes_max: usize,
        link: Arc<Link>,
        violations: &'static Violations,
    ) -> Self {
        Self {
            io,
            client,
            scanner: Scanner::new(head_bytes_max),
            link,
            violations,
            passing: Passing::Scanned,
            held: Bytes::new(),
            message_ended: None,
            head_timer: None,
            half_closed: None,
            linger_timer: None,
        }
    }

    /// The connection, and what was read from it but not passed on.
    pub(super) fn into_inner(self) -> (IO, Bytes) {
        (self.io, self.held)
    }

    /// Reads whole messages again that hyper has not begun.
    pub(super) fn read_again(&mut self, messages: Bytes) {
        if !messages.is_empty() {
            self.held = [messages, std::mem::take(&mut self.held)].concat().into();
        }
    }

    /// How many of the bytes pass.
    fn scan(&mut self, bytes: &[u8]) -> usize {
        let passed = match self.scanner.scan(bytes) {
            Ok(passed) => passed,
            Err(Objection { at, violation }) => {
                self.refuse(violation);
                // Of a header section that is too large hyper has to see as much, and says so itself.
                let all_pass = violation == Violation::HeadTooLarge;
                return if all_pass { bytes.len() } else { at };
            }
        };
        let is_between = self.scanner.is_between_messages() && !self.scanner.is_undecided();
        self.link.set_between_messages(is_between);
        if !self.scanner.is_in_head() {
            self.head_timer = None;
            if self.scanner.is_between_messages() {
                self.message_ended = Some(Instant::now());
            }
        }
        passed
    }

    fn refuse(&mut self, violation: Violation) {
        self.violations.count(violation);
        self.link.refuse();
        self.link.set_between_messages(false);
        self.held.clear();
        // Scanned => Refusal
        let is_said_otherwise =
            matches!(violation, Violation::HeadTooLarge | Violation::HeadTimeout);
        self.passing = Passing::Refusal(if is_said_otherwise { &[] } else { POISON });
    }

    /// Whether the application may still be sending what nobody will read.
    fn has_to_linger(&self) -> bool {
        match self.passing {
            Passing::Refusal(_) => true,
            Passing::Scanned => !self.scanner.is_between_messages(),
            Passing::Everything | Passing::HalfClosed => false,
        }
    }
}

impl<IO: AsyncRead + Unpin> Guard<IO> {
    fn poll_scanned(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.scanner.is_undecided() {
            match self.link.phase() {
                Phase::Calling => return self.poll_undecided(cx, buf),
                // Scanned => Everything
                Phase::Tunnel => {
                    self.passing = Passing::Everything;
                    return self.poll_everything(cx, buf);
                }
                Phase::Idle => {
                    self.scanner.go_on();
                    self.link.set_between_messages(true);
                }
            }
        }
        let before = buf.filled().len();
        if self.held.is_empty() {
            let is_pending = Pin::new(&mut self.io).poll_read(cx, buf)?.is_pending();
            if is_pending && self.scanner.is_in_head() {
                return self.poll_head_timeout(cx);
            } else if is_pending {
                return Poll::Pending;
            } else if buf.filled().len() == before {
                return self.end_of_stream(cx);
            }
            let read = buf.filled().get(before..).unwrap_or_default();
            let passed = self.scan(read);
            if let Some(rest @ [_, ..]) = read.get(passed..) {
                if self.passing == Passing::Scanned {
                    self.held = Bytes::copy_from_slice(rest);
                }
                buf.set_filled(before + passed);
            }
        } else {
            let held = self.held.split_to(self.held.len().min(buf.remaining()));
            let passed = self.scan(&held);
            buf.put_slice(held.get(..passed).unwrap_or_default());
            if passed < held.len() && self.passing == Passing::Scanned {
                let rest = [held.get(passed..).unwrap_or_default(), &self.held].concat();
                self.held = rest.into();
            }
        }
        self.pass_refusal(buf);
        Poll::Ready(Ok(()))
    }

    fn pass_refusal(&mut self, buf: &mut ReadBuf<'_>) {
        if let Passing::Refusal(bytes) = &mut self.passing {
            let count = bytes.len().min(buf.remaining());
            let (now, later) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            buf.put_slice(now);
            *bytes = later;
        }
    }

    /// Reads on, so that a client that goes away is noticed, but keeps what comes.
    fn poll_undecided(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.link.wait(cx.waker());
        if !self.held.is_empty() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return self.end_of_stream(cx);
        }
        self.held = Bytes::copy_from_slice(read);
        buf.set_filled(before);
        Poll::Pending
    }

    fn poll_everything(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let count = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held.split_to(count));
        Poll::Ready(Ok(()))
    }

    /// Decides what an end of stream during a call means.
    ///
    /// One that has only ended its sending waits for its response, and gets it; what was begun for one that gave up is
    /// cancelled. The kernel knows whether the client is still there. Where it is not, or the kernel cannot be asked, time
    /// has to tell: a client that shuts its sending side down, or wants no answer at all, does so right after its request;
    /// one that gives up does so later, mostly when its patience ends.
    fn end_of_stream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_half_close = self.link.phase() == Phase::Calling
            && self.scanner.is_between_messages()
            && match self.client.holder() {
                Holder::Application => true,
                Holder::Nobody | Holder::Missing | Holder::Unknown => self
                    .message_ended
                    .is_some_and(|ended| ended.elapsed() < HALF_CLOSE_DELAY_MAX),
            };
        if !is_half_close {
            return Poll::Ready(Ok(()));
        }
        // Scanned => HalfClosed
        self.passing = Passing::HalfClosed;
        self.link.set_between_messages(false);
        self.half_closed = Some(HalfClosed::now());
        self.poll_half_closed(cx)
    }

    /// Ready, with nothing read, when the call under way has ended, or its client has gone before it was answered.
    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.phase() != Phase::Calling {
            return Poll::Ready(Ok(()));
        }
        self.link.wait(cx.waker());
        match &mut self.half_closed {
            Some(half_closed) => half_closed.poll_gone(&self.client, cx).map(Ok),
            None => Poll::Pending,
        }
    }

    /// Bytes go to a client that may be half-closed.
    fn answers_half_closed(&mut self) {
        if let Some(half_closed) = &mut self.half_closed {
            half_closed.answered();
        }
    }

    /// Waits for the next bytes, or for the end of the stream, without a buffer to read into. True where there are bytes.
    pub(super) fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.held.is_empty() {
            return Poll::Ready(true);
        }
        let mut first_bytes = [0; 512];
        let mut read = ReadBuf::new(&mut first_bytes);
        let is_open = ready!(Pin::new(&mut self.io).poll_read(cx, &mut read)).is_ok();
        self.held = Bytes::copy_from_slice(read.filled());
        Poll::Ready(is_open && !self.held.is_empty())
    }

    fn poll_head_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let timer = self
            .head_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(HEAD_TIMEOUT)));
        ready!(timer.as_mut().poll(cx));
        self.refuse(Violation::HeadTimeout);
        Poll::Ready(Ok(()))
    }

    /// Reads and drops what still comes, for a while: closing a socket with unread bytes resets it, and the peer might
    /// lose the response that says why (RFC 9112 §9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .linger_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [0; 4096];
        for _ in 0..LINGER_READS_A_TURN {
            let mut read = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.passing {
            Passing::Scanned => this.poll_scanned(cx, buf),
            Passing::Everything => this.poll_everything(cx, buf),
            Passing::HalfClosed => this.poll_half_closed(cx),
            Passing::Refusal(_) => {
                this.pass_refusal(buf);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answers_half_closed();
        if this.link.trailers.waits() {
            let buffers = [io::IoSlice::new(buf)];
            let written = this.link.trailers.poll_write(&mut this.io, cx, &buffers);
            this.link.set_blocked(written.is_pending());
            return written;
        }
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.link.set_blocked(written.is_pending());
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.answers_half_closed();
        if this.link.trailers.waits() {
            let written = this.link.trailers.poll_write(&mut this.io, cx, bufs);
            this.link.set_blocked(written.is_pending());
            return written;
        }
        let written = gather::poll_write(&mut this.io, cx, bufs);
        this.link.set_blocked(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.link.written();
        if this.link.has_interim() {
            // hyper flushes when it has written all that it has: only here nothing can be torn apart.
            let (io, link) = (&mut this.io, &this.link);
            ready!(link.poll_interim(|bytes| Pin::new(&mut *io).poll_write(cx, bytes)))?;
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger_timer.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.has_to_linger() {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_linger(cx).map(Ok)
    }
}

/// Wrong wherever it comes: as a method, target or field (NUL), as a chunk's size (NUL), in a chunk's extension (LF
/// without CR), behind a chunk's data; and it ends a header or trailer section, so that the parser speaks at once.
const POISON: &[u8] = b"\0\n\r\n\r\n";
/// Longest time for a header section from its first byte to its last. As long as nginx and hyper give.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Where the kernel cannot be asked, an end of stream that comes later than this after the request means that the client
/// has gone. Longer than any scheduling delay between a request's last byte and a shutdown right behind it, shorter than
/// any sensible patience.
const HALF_CLOSE_DELAY_MAX: Duration = Duration::from_millis(100);
/// How long a connection that was ended early is read from: a few round trips.
const LINGER: Duration = Duration::from_secs(2);
/// Reads of a lingering connection before other tasks have their turn.
const LINGER_READS_A_TURN: usize = 16;

#[cfg(test)]
mod tests;
