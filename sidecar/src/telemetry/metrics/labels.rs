//! The closed sets that metric labels come from.
//!
//! A label whose values nobody can list in advance would let outside bytes grow the page without bound. So every label but
//! the destination's name is one of these enums, and the destination's name is bounded by its
//! [table](super::destinations).

use crate::error::Shed;
use crate::telemetry::record::{Outcome, Protocol, Verdict};

/// A set of label values that is known in advance.
pub trait Closed: Copy + PartialEq + 'static {
    /// All values, in the order in which they are scraped.
    const ALL: &'static [Self];

    /// The value as it is scraped.
    fn word(self) -> &'static str;

    /// Its place in [`ALL`](Self::ALL). The sets are so small that a search costs less than a table.
    fn place(self) -> usize {
        Self::ALL
            .iter()
            .position(|value| *value == self)
            .unwrap_or_default()
    }
}

impl Closed for Outcome {
    const ALL: &'static [Self] = &Outcome::ALL;
    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Closed for Shed {
    const ALL: &'static [Self] = &Shed::ALL;
    fn word(self) -> &'static str {
        self.reason()
    }
}

impl Closed for Verdict {
    const ALL: &'static [Self] = &Verdict::ALL;
    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Closed for Protocol {
    const ALL: &'static [Self] = &[Self::Http1, Self::Http2, Self::Grpc];
    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// What an attempt that was dispatched came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// A response that is not a server error.
    Answered,
    /// A response with a 5xx status, or a gRPC status that says so.
    ServerError,
    /// No response head.
    NoResponse,
    /// The application gave the call up meanwhile.
    Cancelled,
}

impl Closed for AttemptResult {
    const ALL: &'static [Self] = &[
        Self::Answered,
        Self::ServerError,
        Self::NoResponse,
        Self::Cancelled,
    ];
    fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ServerError => "server_error",
            Self::NoResponse => "no_response",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a wish to send a call again came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryResult {
    /// Sent again, and answered without a server error.
    Succeeded,
    /// Sent again, and failed again.
    Failed,
    /// Found no permit: not sent again.
    Shed,
    /// The application gave the call up meanwhile.
    Cancelled,
    /// Not sent again: unsafe, out of budget or time, or the destination asked for none.
    Refused,
}

impl Closed for RetryResult {
    const ALL: &'static [Self] = &[
        Self::Succeeded,
        Self::Failed,
        Self::Shed,
        Self::Cancelled,
        Self::Refused,
    ];
    fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Shed => "shed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        }
    }
}

/// Which end of the proxy a connection is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The application's.
    Downstream,
    /// The server's.
    Upstream,
}

impl Closed for Side {
    const ALL: &'static [Self] = &[Self::Downstream, Self::Upstream];
    fn word(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        }
    }
}

/// Which way bytes went, seen from the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Read from the peer.
    Received,
    /// Written to the peer.
    Sent,
}

impl Closed for Direction {
    const ALL: &'static [Self] = &[Self::Received, Self::Sent];
    fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
        }
    }
}

/// What a connection speaks, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Not known yet: detection is under way.
    Unknown,
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// TLS that weir does not open.
    Tls,
    /// Anything else, a server that speaks first included.
    Opaque,
    /// A tunnel: CONNECT, or an upgraded connection.
    Tunnel,
}

impl Closed for Speaks {
    const ALL: &'static [Self] = &[
        Self::Unknown,
        Self::Http1,
        Self::Http2,
        Self::Tls,
        Self::Opaque,
        Self::Tunnel,
    ];
    fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Opaque => "opaque",
            Self::Tunnel => "tunnel",
        }
    }
}

/// How detection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detection {
    /// An HTTP/1 request line.
    Http1,
    /// The HTTP/2 preface.
    Http2,
    /// A TLS `ClientHello`.
    Tls,
    /// Bytes of no protocol that weir reads.
    Opaque,
    /// The server spoke first.
    ServerFirst,
    /// The port or the destination is known to be opaque; nothing was looked at.
    Skipped,
    /// The application said too little for too long.
    TimedOut,
    /// The connection ended before anything could be told.
    Closed,
    /// The server could not be reached, and the application said nothing.
    Unreachable,
    /// The connection has no destination that weir may dial.
    Refused,
}

impl Closed for Detection {
    const ALL: &'static [Self] = &[
        Self::Http1,
        Self::Http2,
        Self::Tls,
        Self::Opaque,
        Self::ServerFirst,
        Self::Skipped,
        Self::TimedOut,
        Self::Closed,
        Self::Unreachable,
        Self::Refused,
    ];
    fn word(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Opaque => "opaque",
            Self::ServerFirst => "server_first",
            Self::Skipped => "skipped",
            Self::TimedOut => "timed_out",
            Self::Closed => "closed",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

/// Why accepting paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptPause {
    /// No descriptors left (EMFILE, ENFILE).
    Descriptors,
    /// No memory for a socket (ENOMEM, ENOBUFS), or the process is near the memory that it may have.
    Memory,
    /// As many connections are open as weir allows.
    Connections,
    /// Another error of the listener.
    Other,
}

impl Closed for AcceptPause {
    const ALL: &'static [Self] = &[
        Self::Descriptors,
        Self::Memory,
        Self::Connections,
        Self::Other,
    ];
    fn word(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Connections => "connections",
            Self::Other => "other",
        }
    }
}

/// Why spans were not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanDrop {
    /// The collector takes them more slowly than they are made.
    QueueFull,
    /// The collector is gone, too slow, or refused them.
    ExportFailed,
    /// The flush at the end ran out of time.
    Shutdown,
}

impl Closed for SpanDrop {
    const ALL: &'static [Self] = &[Self::QueueFull, Self::ExportFailed, Self::Shutdown];
    fn word(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ExportFailed => "export_failed",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Kinds of [`UpstreamError`](crate::error::UpstreamError), and one for those that this list does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorKind(&'static str);

impl From<&'static str> for ErrorKind {
    fn from(kind: &'static str) -> Self {
        let known = Self::ALL.iter().find(|known| known.0 == kind);
        known.copied().unwrap_or(Self("other"))
    }
}

impl Closed for ErrorKind {
    const ALL: &'static [Self] = &[
        Self("connect_failure"),
        Self("connect_timeout"),
        Self("not_sent"),
        Self("refused_stream"),
        Self("go_away"),
        Self("reset"),
        Self("attempt_timeout"),
        Self("malformed_response"),
        Self("request_body"),
        Self("other"),
    ];
    fn word(self) -> &'static str {
        self.0
    }
}
