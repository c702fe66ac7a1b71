//! What can go wrong with a call, one variant a decision.
//!
//! Status, gRPC code and whether a retry may help all follow from these in one `match` each (see
//! [`respond`](crate::respond) and [`overload::classify`](crate::overload)).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::http::body::BodyError;

/// Why an attempt brought no response head.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection: refused, unreachable, or out of local ports. Nothing was sent.
    #[error("connecting to {addr}: {source}; is the upstream's port right and its pod ready?")]
    Connect {
        /// Where to.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No connection in time. Nothing was sent.
    #[error(
        "connecting to {addr}: no answer within {after:?}; is a network policy dropping packets?"
    )]
    ConnectTimeout {
        /// Where to.
        addr: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// The connection ended before the request was written to it. Nothing was sent.
    #[error("{addr} closed the connection before the request was sent")]
    NotSent {
        /// The upstream.
        addr: SocketAddr,
    },
    /// HTTP/2 `REFUSED_STREAM`: the server promises that it did not process the request.
    #[error("{addr} refused the stream")]
    RefusedStream {
        /// The upstream.
        addr: SocketAddr,
    },
    /// HTTP/2 GOAWAY with a last stream id below the request's: not processed.
    #[error("{addr} went away before it took the request")]
    GoAway {
        /// The upstream.
        addr: SocketAddr,
    },
    /// The connection or stream ended after the request (or a part of it) was sent, before a response head.
    #[error("{addr} reset the call before it answered: {detail}")]
    Reset {
        /// The upstream.
        addr: SocketAddr,
        /// The HTTP/2 reason, where there is one.
        reason: Option<h2::Reason>,
        /// What the protocol library said.
        detail: String,
    },
    /// The attempt timeout passed before the response head.
    #[error("{addr} did not answer within {after:?}")]
    AttemptTimeout {
        /// The upstream.
        addr: SocketAddr,
        /// The timeout.
        after: Duration,
    },
    /// The upstream's bytes are not the protocol they claim to be.
    #[error("{addr} sent a malformed response: {detail}")]
    Malformed {
        /// The upstream.
        addr: SocketAddr,
        /// What the protocol library said.
        detail: String,
    },
    /// The application's own request body failed while it was sent.
    #[error("the request's body ended early: {0}")]
    RequestBody(#[source] BodyError),
}

impl UpstreamError {
    /// Whether the request was provably not processed, so that repeating it is safe for any method.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::NotSent { .. }
            | Self::RefusedStream { .. }
            | Self::GoAway { .. } => true,
            Self::Reset { .. }
            | Self::AttemptTimeout { .. }
            | Self::Malformed { .. }
            | Self::RequestBody(_) => false,
        }
    }

    /// A word from a closed set, for metrics, spans (`error.type`) and decisions.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect_failure",
            Self::ConnectTimeout { .. } => "connect_timeout",
            Self::NotSent { .. } => "not_sent",
            Self::RefusedStream { .. } => "refused_stream",
            Self::GoAway { .. } => "go_away",
            Self::Reset { .. } => "reset",
            Self::AttemptTimeout { .. } => "attempt_timeout",
            Self::Malformed { .. } => "malformed_response",
            Self::RequestBody(_) => "request_body",
        }
    }
}

/// Why weir refused a call itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shed {
    /// The destination's queue has no room.
    QueueFull,
    /// The call waited for the queue timeout and found no permit.
    QueueTimeout,
    /// The destination's queue is standing, and this call waited too long in it.
    QueueStanding,
    /// A more important call needed this one's place.
    Displaced,
    /// The call's deadline would pass before it could be answered.
    DeadlineUnreachable,
    /// The endpoint is ejected after failures in a row.
    Ejected,
    /// weir itself is near the memory that it may have.
    Memory,
}

impl Shed {
    /// All of them, for metrics.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::QueueTimeout,
        Self::QueueStanding,
        Self::Displaced,
        Self::DeadlineUnreachable,
        Self::Ejected,
        Self::Memory,
    ];

    /// The word in `x-weir-shed`, in metrics and in decisions.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::QueueStanding => "queue_standing",
            Self::Displaced => "displaced",
            Self::DeadlineUnreachable => "deadline_unreachable",
            Self::Ejected => "ejected",
            Self::Memory => "memory",
        }
    }

    /// The reason in words, for whoever reads the response.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::QueueFull => "as many calls wait for the destination as may",
            Self::QueueTimeout => "the call waited for the whole queue timeout without its turn",
            Self::QueueStanding => {
                "the destination has been slower than its calls come for a while, and this one waited too long"
            }
            Self::Displaced => "a more important call needed this one's place in the queue",
            Self::DeadlineUnreachable => {
                "the call's deadline would pass before it could be answered"
            }
            Self::Ejected => {
                "the endpoint failed so often in a row that it is left alone for a while"
            }
            Self::Memory => {
                "weir is near the memory that it may have, and takes no further calls until some have ended"
            }
        }
    }
}

/// Why a call brought no response from its destination.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// weir refused it.
    #[error("{}; `weirctl decisions` shows the numbers", .shed.explanation())]
    Shed {
        /// Why.
        shed: Shed,
        /// When a new try may be worthwhile.
        retry_after: Duration,
    },
    /// The last attempt failed.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The last attempt failed, and the retry budget refused another one.
    #[error(transparent)]
    Exhausted(UpstreamError),
    /// The call's deadline passed.
    #[error("the call's deadline of {deadline:?} passed")]
    DeadlineExceeded {
        /// How long the call was given.
        deadline: Duration,
    },
}
