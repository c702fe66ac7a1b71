//! What the proxy really does: its status, destinations, decisions and connections.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PolicyStatus, Timestamp};

/// The proxy as a whole.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// weir's version.
    pub version: String,
    /// The proxy's process id.
    pub pid: u32,
    /// Milliseconds since the proxy started.
    pub uptime_ms: u64,
    /// Data plane threads.
    pub workers: u32,
    /// Whether the proxy is shutting down: what is in flight is finished, and little else is begun.
    pub draining: bool,
    /// The policy in force; [`Store::status`](crate::store::Store::status) makes it.
    pub policy: PolicyStatus,
    /// Calls since the proxy started.
    pub calls: u64,
    /// Calls that are not finished.
    pub in_flight: u64,
    /// Open connections from the application.
    pub connections: u64,
    /// Destinations that are known.
    pub destinations: u64,
    /// Where the proxy listens.
    pub listeners: Vec<Listener>,
    /// Requests to the control API.
    pub control: ControlCounts,
}

/// Requests to the control API since the proxy started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ControlCounts {
    /// Requests, those of refused callers included.
    pub requests: u64,
    /// Requests of callers that may not call.
    pub refused_callers: u64,
    /// Connections beyond the most that are served at a time.
    pub refused_connections: u64,
}

/// One place where the proxy listens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// What for: `outbound`, `explicit-proxy`, `admin`, `control`.
    pub name: String,
    /// Socket address, or path.
    pub address: String,
}

/// How a destination is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DestinationState {
    /// Calls go through without waiting.
    #[default]
    Healthy,
    /// Calls wait, and get their turn.
    Queueing,
    /// Some calls are refused.
    Shedding,
    /// Retries are refused: their budget is spent.
    Exhausted,
    /// Single calls find out whether it is back.
    Probing,
}

impl DestinationState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Healthy,
        Self::Queueing,
        Self::Shedding,
        Self::Exhausted,
        Self::Probing,
    ];

    /// The state's name in JSON, metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Queueing => "queueing",
            Self::Shedding => "shedding",
            Self::Exhausted => "exhausted",
            Self::Probing => "probing",
        }
    }
}

impl fmt::Display for DestinationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One destination, and what weir knows about it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Host and port, and after a slash the route with a state of its own.
    pub name: String,
    /// The route whose own admission, budget or breaker this is; none: those that its other routes share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// How it is.
    pub state: DestinationState,
    /// Most calls in flight.
    pub limit: u32,
    /// Calls in flight.
    pub in_flight: u32,
    /// Calls that wait.
    pub queue_length: u32,
    /// Age of the oldest waiting call, in milliseconds.
    pub oldest_wait_ms: f64,
    /// Retries that the budget allows now.
    pub budget_balance: f64,
    /// Endpoints that the breaker leaves alone now.
    pub ejected_endpoints: u32,
    /// How long attempts take.
    pub latency: Latency,
    /// Calls since the destination became known.
    pub calls: u64,
    /// Calls that ended since then, by how: `answered`, `failed` (a server error), `unreachable`, `shed`, `timed_out`,
    /// `cancelled`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<String, u64>,
    /// Retries since then.
    pub retries: u64,
    /// Calls refused here since then, by reason.
    pub sheds: BTreeMap<String, u64>,
    /// What would have happened since then to calls that `mode: observe` let pass: `queued`, `shed`, `retried`,
    /// `retry_refused`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub observed: BTreeMap<String, u64>,
    /// Why an attempt last brought no response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<Timestamp>,
}

impl Destination {
    /// Calls that ended in a server error, without a connection, or without an answer in time.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let of = |outcome| self.outcomes.get(outcome).copied().unwrap_or(0);
        of("failed") + of("unreachable") + of("timed_out")
    }
}

/// How long attempts take, from dispatch to response head, in milliseconds. None: no samples.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Latency {
    /// Median.
    pub p50_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
}

/// What weir did to a call that changed its fate, and why.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Decision {
    /// Its place among all decisions, from 1; later ones have higher numbers.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What was done: `shed`, `queued`, `retried`, `retry_refused`, `timed_out`, `ejected`; in observe mode what would have
    /// been: `would_shed`, `would_retry`, `would_refuse_retry`.
    pub what: String,
    /// Why, in a word.
    pub reason: String,
    /// To whom the call was.
    pub destination: String,
    /// The route that said so.
    pub route: String,
    /// The policy revision that said so.
    pub revision: u64,
    /// The call's correlation id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The call's trace, 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The numbers that it was decided by.
    pub inputs: BTreeMap<String, Value>,
}

/// Which decisions are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionFilter {
    /// Only those of this trace id or correlation id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Only those about this destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only those with a higher sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// At most this many, the latest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl DecisionFilter {
    /// Whether a decision is asked for; its number among the others is not looked at.
    #[must_use]
    pub fn accepts(&self, decision: &Decision) -> bool {
        let trace = |wanted: &str| {
            decision.trace_id.as_deref() == Some(wanted)
                || decision.correlation_id.as_deref() == Some(wanted)
        };
        self.trace.as_deref().is_none_or(trace)
            && self
                .destination
                .as_deref()
                .is_none_or(|wanted| decision.destination == wanted)
            && self.since.is_none_or(|since| decision.sequence > since)
    }
}

/// One open connection from the application.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// Its number since the proxy started.
    pub id: u64,
    /// The application's end.
    pub peer: String,
    /// Where the application wanted to go.
    pub destination: String,
    /// What it carries: `unknown` (not yet told), `http1`, `http2`, `tls`, `opaque`, `tunnel`.
    pub protocol: String,
    /// When it was accepted.
    pub since: Timestamp,
    /// Calls on it so far.
    pub calls: u64,
    /// The policy revision that its next call obeys; of a connection that brings none, the one that it was accepted under.
    pub revision: u64,
}
