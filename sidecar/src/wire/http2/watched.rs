//! The application's connection, with an eye on the frames that pass.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::VIOLATIONS;
use super::abuse::{Inbound, Outbound, Violation, carries_a_call, of_reset};
use crate::http::header_limit::HeaderLimit;
use crate::http::http2_frames::Scanner;

/// What the eye has seen, for the task that drives the connection.
#[derive(Debug, Default)]
pub(super) struct Seen {
    greeted: AtomicBool,
    /// What the application did was well formed, and too much.
    is_too_much: AtomicBool,
    header_limit: AtomicBool,
    /// The last stream that was accepted.
    accepted: AtomicU32,
    /// Resets to come whose code is an upstream's.
    passed_on: AtomicU32,
    broken: Notify,
}

impl Seen {
    /// Whether the application's SETTINGS have come.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeted.load(Ordering::Relaxed)
    }

    /// The application went too far: the connection is to be ended with the reason given.
    pub(super) async fn broken(&self) -> h2::Reason {
        self.broken.notified().await;
        if self.is_too_much.load(Ordering::Relaxed) {
            h2::Reason::ENHANCE_YOUR_CALM
        } else {
            h2::Reason::PROTOCOL_ERROR
        }
    }

    /// Whether a header section was so large that the connection was ended.
    pub(super) fn is_header_limit(&self) -> bool {
        self.header_limit.load(Ordering::Relaxed)
    }

    /// A stream was accepted: what is sent on it from now on is ours.
    pub(super) fn accepted(&self, stream: u32) {
        self.accepted.store(stream, Ordering::Relaxed);
    }

    /// A stream will be reset with a code that its upstream gave.
    pub(super) fn passes_on(&self, reason: h2::Reason) {
        if of_reset(reason.into()).is_some() {
            self.passed_on.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn was_passed_on(&self) -> bool {
        let one_less = |passed_on: u32| passed_on.checked_sub(1);
        self.passed_on
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }

    /// The application went too far.
    pub(super) fn breaks(&self, violation: Violation) {
        VIOLATIONS.count(violation);
        if matches!(violation, Violation::Flood | Violation::HeaderLimit) {
            self.is_too_much.store(true, Ordering::Relaxed);
        }
        self.broken.notify_one();
    }
}

/// A connection whose frames are watched both ways.
///
/// What was read when the application went too far goes no further, and nothing more is read.
#[derive(Debug)]
pub(super) struct Watched<IO> {
    io: IO,
    seen: Arc<Seen>,
    inbound: Inbound,
    inbound_frames: Scanner,
    outbound: Outbound,
    outbound_frames: Scanner,
    is_broken: bool,
}

impl<IO> Watched<IO> {
    pub(super) fn new(io: IO, header_limit: HeaderLimit, seen: Arc<Seen>) -> Self {
        Self {
            io,
            seen,
            inbound: Inbound::new(header_limit, Instant::now()),
            inbound_frames: Scanner::after_preface(),
            outbound: Outbound::default(),
            outbound_frames: Scanner::default(),
            is_broken: false,
        }
    }

    fn came(&mut self, bytes: &[u8]) {
        let was_greeted = self.inbound.is_greeted();
        let inbound = &mut self.inbound;
        let mut worst = None;
        self.inbound_frames
            .feed(bytes, |frame| worst = worst.or(inbound.see(frame)));
        if !was_greeted && inbound.is_greeted() {
            self.seen.greeted.store(true, Ordering::Relaxed);
        }
        if let Some(violation) = worst {
            self.is_broken = true;
            self.seen.breaks(violation);
        }
    }

    fn went(&mut self, bytes: &[u8]) {
        let (outbound, inbound, seen) = (&mut self.outbound, &mut self.inbound, &self.seen);
        self.outbound_frames.feed(bytes, |frame| {
            if carries_a_call(frame) {
                inbound.answered();
            }
            let accepted = seen.accepted.load(Ordering::Relaxed);
            if let Some(violation) = outbound.see(frame, accepted, || seen.was_passed_on()) {
                VIOLATIONS.count(violation);
            }
        });
        if outbound.is_header_limit() {
            seen.header_limit.store(true, Ordering::Relaxed);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_broken {
            // `Seen::broken` wakes the connection's task.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.came(buf.filled().get(before..).unwrap_or_default());
        if this.is_broken {
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.went(buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let part = buf.get(..left.min(buf.len())).unwrap_or_default();
            this.went(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
