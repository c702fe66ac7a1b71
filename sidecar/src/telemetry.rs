//! What can be seen of weir: metrics, spans, decisions, logs.
//!
//! The data plane tells [`Telemetry`] once, when a call ends. A call that nobody needs to read about costs some relaxed
//! additions; only one that is exported, or whose fate was changed, is handed over whole.

pub mod decisions;
pub mod facts;
pub mod metrics;
pub mod record;
pub mod sampler;

#[cfg(test)]
pub(crate) mod fixture;

use std::sync::Arc;

use decisions::Decisions;
use metrics::{DestinationMetrics, Metrics};
use record::{CallRecord, Ended, Sampling, TraceId};
use sampler::Sampler;

/// Where everything that can be seen goes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    metrics: Arc<Metrics>,
    decisions: Decisions,
    sampler: Sampler,
}

/// What is still wanted of a call after it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a call that is wanted is handed over with `Telemetry::keep`"]
pub struct Wanted {
    decisions: bool,
}

impl Wanted {
    /// Whether the call's record must be built and handed over.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.decisions
    }
}

impl Telemetry {
    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The latest decisions.
    #[must_use]
    pub fn decisions(&self) -> &Decisions {
        &self.0.decisions
    }

    /// Whether a trace is exported; `parent` is the sampled flag of the caller's context, where there is one.
    #[must_use]
    pub fn sample(&self, parent: Option<bool>, trace_id: &TraceId) -> Sampling {
        self.0.sampler.sample(parent, trace_id)
    }

    /// Counts a finished call, and says what else is wanted of it. Called once a call, at its very end.
    ///
    /// No lock and no allocation unless the call carries decisions.
    pub fn count(&self, destination: &DestinationMetrics, ended: &Ended<'_>) -> Wanted {
        destination.count(ended);
        self.0.metrics.decided(ended.decisions);
        Wanted {
            decisions: !ended.decisions.is_empty(),
        }
    }

    /// Keeps a counted call for whoever wants it.
    pub fn keep(&self, wanted: Wanted, record: CallRecord) {
        if wanted.decisions {
            self.0.decisions.keep(&record);
        }
        drop(record);
    }

    /// Counts a finished call and keeps it where it is wanted: [`count`](Self::count) and [`keep`](Self::keep) in one, for
    /// callers that have the record anyway.
    pub fn record(&self, destination: &DestinationMetrics, record: CallRecord) {
        let wanted = self.count(destination, &record.ended());
        if wanted.is_any() {
            self.keep(wanted, record);
        }
    }
}
