//! What is simulated, and what came of it.

use std::time::Duration;

use control_api::policy::{self, Priority};

/// What is simulated.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) length: Duration,
    /// Calls per second of each priority.
    pub(super) offered: Vec<(Priority, f64)>,
    /// Whether calls bring their deadline along, or weir knows nothing of the callers' patience.
    pub(super) deadlines: Deadlines,
    /// How long a caller waits for its answer.
    pub(super) patience: Duration,
    pub(super) bursts: Bursts,
    pub(super) admission: policy::Admission,
    pub(super) retry: policy::Retry,
    /// Mean service time at a point in time.
    pub(super) service: fn(Duration) -> Duration,
    /// Share of calls that fail at a point in time.
    pub(super) failing: fn(Duration) -> f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bursts {
    None,
    /// Twice the load in the first tenth of each second.
    Double,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadlines {
    Propagated,
    Unknown,
}

/// What came of the calls that arrived in one second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Second {
    pub(super) calls: u32,
    pub(super) critical_calls: u32,
    pub(super) answered_in_time: u32,
    pub(super) critical_answered_in_time: u32,
    pub(super) attempts: u32,
    pub(super) retries: u32,
}
