//! What a connection may do that carries no call, and what is counted when it does more.
//!
//! The `h2` crate bounds the memory that a hostile peer can take, and ends the connection over CONTINUATION floods,
//! resets of streams that were not accepted yet, small and empty DATA frames. It does not bound frames that only cost
//! time (PING, SETTINGS, PRIORITY, `WINDOW_UPDATE`, unknown ones), nor header blocks as they are sent, and it does not
//! tell of the messages that it refuses by itself. All of this can be seen in the frames.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::http::header_limit::{Blocks, HeaderLimit, Size};
use crate::http::http2_frames::{ACK, END_STREAM, FrameHead, kind};

/// What an HTTP/2 peer did against the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A frame that is malformed, or may not stand where it is. The connection was ended.
    Frame,
    /// A malformed message: pseudo headers, connection-specific fields, lengths. Its stream was reset.
    Message,
    /// A header section over its bound: answered with 431, trailers with the end of their call. The connection was ended
    /// where it was far over.
    HeaderLimit,
    /// Rapid resets, CONTINUATION, PING, SETTINGS or empty-frame floods. The connection was ended.
    Flood,
}

impl Violation {
    /// All of them, for metrics.
    pub const ALL: [Self; 4] = [Self::Frame, Self::Message, Self::HeaderLimit, Self::Flood];

    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Message => "message",
            Self::HeaderLimit => "header_limit",
            Self::Flood => "flood",
        }
    }
}

/// How often each [`Violation`] happened since the process began.
#[derive(Debug, Default)]
pub struct Violations {
    frame: AtomicU64,
    message: AtomicU64,
    header_limit: AtomicU64,
    flood: AtomicU64,
}

/// Those of all HTTP/2 connections of the application.
pub static VIOLATIONS: Violations = Violations {
    frame: AtomicU64::new(0),
    message: AtomicU64::new(0),
    header_limit: AtomicU64::new(0),
    flood: AtomicU64::new(0),
};

impl Violations {
    /// How many there were.
    #[must_use]
    pub fn get(&self, violation: Violation) -> u64 {
        self.counter(violation).load(Ordering::Relaxed)
    }

    /// One more; the log says so too, since a reset or GOAWAY of the library's gives no reason.
    pub(super) fn count(&self, violation: Violation) {
        let kind = violation.as_str();
        tracing::warn!(kind, "refused the application's HTTP/2");
        self.counter(violation).fetch_add(1, Ordering::Relaxed);
    }

    fn counter(&self, violation: Violation) -> &AtomicU64 {
        match violation {
            Violation::Frame => &self.frame,
            Violation::Message => &self.message,
            Violation::HeaderLimit => &self.header_limit,
            Violation::Flood => &self.flood,
        }
    }
}

/// What the error that ended a connection says about its peer; `None` where it is not the peer's doing.
///
/// `is_header_limit`: our GOAWAY said that a header section was far too large.
pub(super) fn of_connection(error: &h2::Error, is_header_limit: bool) -> Option<Violation> {
    if !error.is_library() {
        return None;
    }
    Some(match error.reason() {
        Some(h2::Reason::ENHANCE_YOUR_CALM) if is_header_limit => Violation::HeaderLimit,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Violation::Flood,
        _ => Violation::Frame,
    })
}

/// A bucket of things that may be done at once, which fills again with time.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    most: u32,
    per_second: u32,
    filled_at: Instant,
}

impl Allowance {
    pub(super) fn new(most: u32, per_second: u32, now: Instant) -> Self {
        Self {
            left: most,
            most,
            per_second,
            filled_at: now,
        }
    }

    /// Takes one; false when there is none. The clock is read only when the bucket looks empty.
    pub(super) fn take(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.left == 0 {
            self.fill(now());
        }
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }

    /// Puts some back.
    fn earn(&mut self, some: u32) {
        self.left = self.left.saturating_add(some).min(self.most);
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled_at);
        let earned = since.as_millis().saturating_mul(self.per_second.into()) / 1000;
        if earned > 0 {
            self.filled_at = now;
            self.earn(u32::try_from(earned).unwrap_or(u32::MAX));
        }
    }
}

/// Watches what the application sends.
#[derive(Debug)]
pub(super) struct Inbound {
    greeted: bool,
    blocks: Blocks,
    idle_frames: Allowance,
}

impl Inbound {
    pub(super) fn new(header_limit: HeaderLimit, now: Instant) -> Self {
        Self {
            greeted: false,
            blocks: Blocks::within(header_limit),
            idle_frames: Allowance::new(IDLE_FRAMES_MAX, IDLE_FRAMES_PER_SECOND, now),
        }
    }

    /// Whether the application's SETTINGS have come.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// What this frame breaks.
    pub(super) fn see(&mut self, frame: FrameHead) -> Option<Violation> {
        if !self.greeted {
            // RFC 9113 §3.4: the preface's SETTINGS come first.
            self.greeted = frame.kind == kind::SETTINGS && frame.flags & ACK == 0;
            return (!self.greeted).then_some(Violation::Frame);
        }
        if self.blocks.see(frame) == Size::FarOver {
            return Some(Violation::HeaderLimit);
        }
        if carries_a_call(frame) {
            self.answered();
            return None;
        }
        (!self.idle_frames.take(Instant::now)).then_some(Violation::Flood)
    }

    /// A frame with content passed, whichever way: its receiver will acknowledge it.
    pub(super) fn answered(&mut self) {
        self.idle_frames.earn(IDLE_FRAMES_EARNED);
    }
}

/// Watches what the `h2` crate answers by itself.
///
/// What it refuses it does not give us: such an answer is for a stream that was never accepted.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// The last stream whose header section was refused for its size.
    oversized: u32,
    is_header_limit: bool,
}

impl Outbound {
    /// What the peer must have done for this frame to be sent. `accepted` is the last stream that was accepted,
    /// `is_passed_on` tells whether a reset of ours with this code was an upstream's.
    pub(super) fn see(
        &mut self,
        frame: FrameHead,
        accepted: u32,
        is_passed_on: impl FnOnce() -> bool,
    ) -> Option<Violation> {
        match frame.kind {
            kind::HEADERS if frame.stream > accepted && frame.flags & END_STREAM != 0 => {
                self.oversized = frame.stream;
                Some(Violation::HeaderLimit)
            }
            kind::RST_STREAM => {
                let violation = of_reset(frame.code)?;
                // The crate resets the stream behind a 431 whose request has a body.
                if self.oversized >= frame.stream || is_passed_on() {
                    return None;
                }
                Some(violation)
            }
            kind::GOAWAY => {
                self.is_header_limit = frame.debug == HEADER_LIMIT_DEBUG;
                None
            }
            _ => None,
        }
    }

    /// Whether a GOAWAY was sent for a header section that was far too large.
    pub(super) fn is_header_limit(&self) -> bool {
        self.is_header_limit
    }
}

/// What a peer did whose stream the crate resets with this code.
pub(super) fn of_reset(code: u32) -> Option<Violation> {
    match h2::Reason::from(code) {
        h2::Reason::PROTOCOL_ERROR => Some(Violation::Message),
        h2::Reason::FLOW_CONTROL_ERROR => Some(Violation::Frame),
        _ => None,
    }
}

/// Whether a frame has a part of a message in it.
pub(super) fn carries_a_call(frame: FrameHead) -> bool {
    match frame.kind {
        kind::HEADERS => true,
        kind::DATA => frame.length > 0 || frame.flags & END_STREAM != 0,
        _ => false,
    }
}

/// Frames without a call's content that may come at once. A flood sends as many in a few milliseconds.
const IDLE_FRAMES_MAX: u32 = 10_000;

/// How many more may come a second.
const IDLE_FRAMES_PER_SECOND: u32 = 1_000;

/// How many may come with each frame that has content, either way: `WINDOW_UPDATE` on stream and connection, PING,
/// `RST_STREAM`. Some clients give the window back in pieces; Envoy allows 10.
const IDLE_FRAMES_EARNED: u32 = 16;

/// The debug data's first byte where the crate (0.4.20) ends a connection with `header_list_way_too_large`; what it says
/// of floods begins with `too_many`.
const HEADER_LIMIT_DEBUG: u8 = b'h';
