//! What the live page shows, as one JSON object.

use control_api::server::Introspect;
use control_api::view::{Decision, DecisionFilter, Destination, Status, Timestamp};
use serde::Serialize;

use super::Readiness;
use crate::telemetry::Telemetry;
use crate::telemetry::latest::SeenCall;
use crate::telemetry::metrics::{SpanDrop, WorkerMetrics};

/// Destinations that are shown; a person reads no more.
const DESTINATIONS_MAX: usize = 100;

/// Decisions that are shown.
const DECISIONS_MAX: usize = 50;

/// Everything at one moment. Counters count from the start of the process: the page makes rates of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Live {
    now: Timestamp,
    readiness: &'static str,
    status: Status,
    workers: Vec<Worker>,
    spans: Spans,
    destinations: Vec<Destination>,
    destinations_hidden: usize,
    calls: Vec<SeenCall>,
    decisions: Vec<Decision>,
    decisions_made: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Worker {
    name: String,
    busy_ms: f64,
    late_p99_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Spans {
    exported: u64,
    dropped: u64,
}

impl Live {
    /// Looks. A look also asks the proxy to keep the next calls for the one after it.
    pub(super) fn of(telemetry: &Telemetry, proxy: &dyn Introspect, readiness: &Readiness) -> Self {
        let metrics = telemetry.metrics();
        let mut destinations = proxy.destinations();
        let hidden = destinations.len().saturating_sub(DESTINATIONS_MAX);
        if hidden > 0 {
            destinations
                .sort_by_key(|of| std::cmp::Reverse((of.queue_length, of.in_flight, of.calls)));
            destinations.truncate(DESTINATIONS_MAX);
        }
        let latest = DecisionFilter {
            limit: Some(DECISIONS_MAX),
            ..DecisionFilter::default()
        };
        let mut decisions = telemetry.decisions().answer(&latest);
        decisions.reverse();
        let dropped = [
            SpanDrop::QueueFull,
            SpanDrop::ExportFailed,
            SpanDrop::Shutdown,
        ];
        Self {
            now: Timestamp::now(),
            readiness: readiness.get().reason(),
            status: proxy.status(),
            workers: metrics
                .workers()
                .iter()
                .map(|of| Worker::from(&**of))
                .collect(),
            spans: Spans {
                exported: metrics.spans_exported_total(),
                dropped: dropped
                    .map(|reason| metrics.spans_dropped_for(reason))
                    .iter()
                    .sum(),
            },
            destinations,
            destinations_hidden: hidden,
            calls: telemetry.latest_calls().look(),
            decisions,
            decisions_made: telemetry.decisions().made(),
        }
    }
}

impl Live {
    /// Leaves out what only a caller should know.
    pub(super) fn hide_paths(&mut self) {
        for call in &mut self.calls {
            call.path = "".into();
        }
    }
}

impl From<&WorkerMetrics> for Worker {
    fn from(worker: &WorkerMetrics) -> Self {
        Self {
            name: worker.name().to_owned(),
            busy_ms: worker.busy().as_secs_f64() * 1e3,
            late_p99_ms: worker
                .lateness()
                .quantile(0.99)
                .map(|seconds| seconds * 1e3),
        }
    }
}
