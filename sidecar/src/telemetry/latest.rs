//! The latest calls, for whoever looks at the live page.
//!
//! While nobody looks this costs one load a call. Each look buys room for a few dozen calls, apart for those that ended badly
//! or needed help so that a healthy crowd does not hide them; when it is used up, nothing is kept until the next look.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use control_api::view::Timestamp;
use serde::Serialize;

use super::kept;
use super::metrics::labels::Closed;
use super::record::CallRecord;

/// Calls that are kept at most.
const CALLS_MAX: usize = 100;

/// Calls of each sort that one look allows.
const PER_LOOK: u32 = 25;

/// The latest calls since somebody last looked.
#[derive(Debug, Default)]
pub struct LatestCalls {
    healthy: AtomicU32,
    notable: AtomicU32,
    calls: Mutex<VecDeque<SeenCall>>,
}

/// One call as the live page shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenCall {
    /// When it began.
    pub at: Timestamp,
    /// Protocol on both sides.
    pub protocol: &'static str,
    /// HTTP method.
    pub method: &'static str,
    /// Path without its query, shortened.
    pub path: Box<str>,
    /// The destination's name.
    pub destination: Box<str>,
    /// The route's name.
    pub route: Box<str>,
    /// HTTP status that the application saw.
    pub status: u16,
    /// gRPC status that it saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// How it ended.
    pub outcome: &'static str,
    /// What went wrong, from a closed set; empty when nothing did.
    pub error: &'static str,
    /// Whether it ended badly, or was tried more than once.
    pub notable: bool,
    /// To the end of its response body.
    pub duration_ms: f64,
    /// Spent in the queue.
    pub queue_ms: f64,
    /// Tries that were sent.
    pub attempts: usize,
    /// What weir decided, and why.
    pub decisions: Vec<(&'static str, &'static str)>,
    /// The correlation id.
    pub correlation_id: Box<str>,
    /// The trace, 32 hexadecimal digits.
    pub trace_id: String,
}

impl LatestCalls {
    /// Whether a call should be kept; asking takes its place.
    pub(super) fn wants(&self, notable: bool) -> bool {
        let places = if notable {
            &self.notable
        } else {
            &self.healthy
        };
        // The common case first: nobody looks, and a load does not contend.
        places.load(Relaxed) > 0
            && places
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    pub(super) fn keep(&self, record: &CallRecord) {
        let call = SeenCall::from(record);
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() >= CALLS_MAX {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    /// The latest calls, the newest first; makes room for the next ones.
    #[must_use]
    pub fn look(&self) -> Vec<SeenCall> {
        self.healthy.store(PER_LOOK, Relaxed);
        self.notable.store(PER_LOOK, Relaxed);
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().rev().cloned().collect()
    }
}

impl From<&CallRecord> for SeenCall {
    fn from(record: &CallRecord) -> Self {
        let decisions = record.decisions.iter();
        Self {
            at: record.began.into(),
            protocol: record.protocol.word(),
            method: kept::method(&record.method),
            path: kept::path(record).into(),
            destination: (&*record.destination).into(),
            route: (&*record.route).into(),
            status: record.status,
            grpc_status: record.grpc_status,
            outcome: record.outcome.as_str(),
            error: record.error_kind,
            notable: record.ended().is_notable(),
            duration_ms: millis(record.duration),
            queue_ms: millis(record.queued()),
            attempts: record.attempts_sent(),
            decisions: decisions
                .map(|decision| (decision.what.as_str(), decision.reason))
                .collect(),
            correlation_id: kept::readable(&record.correlation_id),
            trace_id: kept::hex(&record.trace_id),
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Telemetry, fixture};

    #[test]
    fn nothing_is_kept_while_nobody_looks() {
        let telemetry = Telemetry::default();
        let destination = telemetry.metrics().destination("payments:80");
        let wanted = telemetry.count(&destination, &fixture::answered_call().ended());
        assert!(!wanted.is_any());
        assert_eq!(telemetry.latest_calls().look().len(), 0);
    }

    #[test]
    fn a_look_buys_a_bounded_number_of_calls_of_each_sort() {
        let telemetry = Telemetry::default();
        let destination = telemetry.metrics().destination("payments:80");
        let latest = telemetry.latest_calls();
        drop(latest.look());
        for _ in 0..1000 {
            telemetry.record(&destination, fixture::answered_call());
        }
        telemetry.record(&destination, fixture::shed_call());
        let seen = latest.look();
        assert_eq!(seen.len(), 26);
        assert_eq!(seen[0].outcome, "shed");
        assert_eq!(seen[0].decisions, [("shed", "queue_full")]);
        for _ in 0..10 {
            drop(latest.look());
            for _ in 0..1000 {
                telemetry.record(&destination, fixture::answered_call());
            }
        }
        assert_eq!(latest.look().len(), CALLS_MAX);
    }

    #[test]
    fn no_query_is_shown() {
        let json = serde_json::to_string(&SeenCall::from(&fixture::answered_call())).unwrap();
        assert!(json.contains("/v1/pay") && !json.contains("4111"));
    }
}
