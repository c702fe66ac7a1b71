//! What happened to one call, written down while it happened and read once at its end.
//!
//! Metrics, spans and decisions are all made from this record, so they cannot disagree.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use control_api::policy::Priority;

use crate::error::Shed;

/// A trace's id (W3C Trace Context §3.2.2.3): 16 bytes, not all zero.
pub type TraceId = [u8; 16];
/// A span's id (W3C Trace Context §3.2.2.4): 8 bytes, not all zero.
pub type SpanId = [u8; 8];

/// Whether a call's trace is sampled, and who decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// The caller's context says yes, or our ratio did.
    Sampled,
    /// The caller's context says no: nothing is exported.
    CallerDeclined,
    /// A root of ours that the ratio passed over: exported only if it ends badly.
    PassedOver,
}

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// A response head with this status.
    Response {
        /// HTTP status.
        status: u16,
        /// gRPC status, where the head already carries one.
        grpc_status: Option<u16>,
    },
    /// No response head: an [`UpstreamError::kind`](crate::error::UpstreamError::kind).
    Failed(&'static str),
    /// weir refused it before it was sent.
    Shed(Shed),
    /// The call was dropped by its caller while the attempt was under way.
    Cancelled,
}

impl AttemptEnd {
    /// Whether the destination answered that it failed: a 5xx status, or a [gRPC status](is_grpc_server_error) that says so.
    #[must_use]
    pub fn is_server_error(&self) -> bool {
        match self {
            Self::Response {
                status,
                grpc_status,
            } => *status >= 500 || grpc_status.is_some_and(is_grpc_server_error),
            Self::Failed(_) | Self::Shed(_) | Self::Cancelled => false,
        }
    }
}

/// Whether a gRPC status is the server's fault: those that OpenTelemetry's conventions call errors of the server (2, 4, 12,
/// 13, 14, 15), and 8, `RESOURCE_EXHAUSTED`, which is how a server refuses load.
#[must_use]
pub fn is_grpc_server_error(grpc_status: u16) -> bool {
    matches!(grpc_status, 2 | 4 | 8 | 12..=15)
}

/// One try of a call.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// The CLIENT span's id; what the upstream saw as its parent.
    pub span_id: SpanId,
    /// Since the call began: when the attempt asked for a permit.
    pub asked: Duration,
    /// Since the call began: when it was dispatched. None: it never got a permit.
    pub dispatched: Option<Duration>,
    /// Since the call began: response head, or failure.
    pub ended: Duration,
    /// Backoff that was waited before it asked.
    pub backoff: Duration,
    /// What it came to.
    pub end: AttemptEnd,
}

impl AttemptRecord {
    /// Time that it waited for a permit, whether it got one or not.
    #[must_use]
    pub fn queued(&self) -> Duration {
        let until = self.dispatched.unwrap_or(self.ended);
        until.saturating_sub(self.asked)
    }
}

/// How a call ended, from the application's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A response of the destination that is not a server error.
    Answered,
    /// A response of the destination with a 5xx status or a gRPC status that says so.
    Failed,
    /// No response from the destination; weir answered with an error.
    Unreachable,
    /// weir refused the call.
    Shed,
    /// The deadline or the last attempt timeout passed.
    TimedOut,
    /// The application gave the call up.
    Cancelled,
}

impl Outcome {
    /// All of them, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Answered,
        Self::Failed,
        Self::Unreachable,
        Self::Shed,
        Self::TimedOut,
        Self::Cancelled,
    ];

    /// The word in metrics, spans and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Shed => "shed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The protocol that a call came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2, not gRPC.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
}

impl Protocol {
    /// The word in metrics, spans and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
        }
    }
}

/// What is known of every finished call without building its [`CallRecord`]: all that metrics need.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Protocol on both sides.
    pub protocol: Protocol,
    /// How it ended.
    pub outcome: Outcome,
    /// From its begin to the end of its response body.
    pub duration: Duration,
    /// Whether spans are exported.
    pub sampling: Sampling,
    /// Its attempts, in order.
    pub attempts: &'a [AttemptRecord],
    /// Decisions that changed its fate, in order.
    pub decisions: &'a [Decision],
}

impl Ended<'_> {
    /// Whether it ended badly or needed help: what a trace is wanted for although the ratio passed it over.
    #[must_use]
    pub fn is_notable(&self) -> bool {
        let badly = match self.outcome {
            Outcome::Failed | Outcome::Unreachable | Outcome::Shed | Outcome::TimedOut => true,
            Outcome::Answered | Outcome::Cancelled => false,
        };
        badly || self.attempts.len() > 1
    }
}

/// The end of a call, as the application saw it.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// HTTP status; 0 for a call that was given up before a response head.
    pub status: u16,
    /// gRPC status, where there was one.
    pub grpc_status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, from a closed set; empty when nothing did.
    pub error_kind: &'static str,
    /// From the call's begin to its response head.
    pub head_after: Duration,
    /// From its begin to the end of its response body.
    pub duration: Duration,
}

/// A finished call.
#[derive(Debug, Clone)]
pub struct CallRecord {
    /// Wall-clock time of its begin.
    pub began: SystemTime,
    /// From its begin to the end of its response body.
    pub duration: Duration,
    /// From its begin to its response head.
    pub head_after: Duration,
    /// The correlation id.
    pub correlation_id: http::HeaderValue,
    /// Its trace.
    pub trace_id: TraceId,
    /// The INTERNAL span of the call.
    pub span_id: SpanId,
    /// The caller's span, where one was propagated.
    pub parent_span_id: Option<SpanId>,
    /// Whether spans are exported.
    pub sampling: Sampling,
    /// HTTP method.
    pub method: http::Method,
    /// Request target as received; only its path goes into spans.
    pub uri: http::Uri,
    /// Protocol on both sides.
    pub protocol: Protocol,
    /// The destination's name, `host:port`.
    pub destination: Arc<str>,
    /// The address that was dialled.
    pub endpoint: SocketAddr,
    /// The route's name.
    pub route: Arc<str>,
    /// The policy's revision.
    pub revision: u64,
    /// The call's priority.
    pub priority: Priority,
    /// HTTP status that the application saw.
    pub status: u16,
    /// gRPC status that the application saw, where there was one.
    pub grpc_status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, from a closed set; empty when nothing did.
    pub error_kind: &'static str,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptRecord>,
    /// Decisions that changed its fate, in order.
    pub decisions: Vec<Decision>,
}

/// A decision that changed a call's fate.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Since the call began.
    pub at: Duration,
    /// What was decided.
    pub what: Verdict,
    /// Why, from a closed set.
    pub reason: &'static str,
    /// The numbers it was decided by, `(name, value)`; the names carry the unit.
    pub inputs: Vec<(&'static str, f64)>,
}

/// What weir decided about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Refused.
    Shed,
    /// Waited for a permit longer than the queue's target.
    Queued,
    /// Sent again.
    Retried,
    /// Not sent again although it failed.
    RetryRefused,
    /// Ended by its deadline or an attempt timeout.
    TimedOut,
    /// The endpoint was ejected by this call's failure.
    Ejected,
    /// Passed in observe mode; would have been refused.
    WouldShed,
    /// Over in observe mode; would have been sent again.
    WouldRetry,
    /// Over in observe mode; would not have been sent again although it failed.
    WouldRefuseRetry,
}

impl Verdict {
    /// All of them, for metrics.
    pub const ALL: [Self; 9] = [
        Self::Shed,
        Self::Queued,
        Self::Retried,
        Self::RetryRefused,
        Self::TimedOut,
        Self::Ejected,
        Self::WouldShed,
        Self::WouldRetry,
        Self::WouldRefuseRetry,
    ];

    /// The word in spans, logs and the control API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shed => "shed",
            Self::Queued => "queued",
            Self::Retried => "retried",
            Self::RetryRefused => "retry_refused",
            Self::TimedOut => "timed_out",
            Self::Ejected => "ejected",
            Self::WouldShed => "would_shed",
            Self::WouldRetry => "would_retry",
            Self::WouldRefuseRetry => "would_refuse_retry",
        }
    }
}

impl CallRecord {
    /// How many of its attempts were sent.
    #[must_use]
    pub fn attempts_sent(&self) -> usize {
        let sent = |attempt: &&AttemptRecord| attempt.dispatched.is_some();
        self.attempts.iter().filter(sent).count()
    }

    /// Time that its attempts spent in the queue.
    #[must_use]
    pub fn queued(&self) -> Duration {
        let waits = self.attempts.iter().map(AttemptRecord::queued);
        waits.sum()
    }

    /// What of it is known without it.
    #[must_use]
    pub fn ended(&self) -> Ended<'_> {
        Ended {
            protocol: self.protocol,
            outcome: self.outcome,
            duration: self.duration,
            sampling: self.sampling,
            attempts: &self.attempts,
            decisions: &self.decisions,
        }
    }
}
