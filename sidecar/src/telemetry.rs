//! What can be seen of weir: metrics, spans, decisions, logs.
//!
//! The data plane tells [`Telemetry`] once, when a call ends. A call that nobody needs to read about costs some relaxed
//! additions; only one that is exported, logged or looked at, or whose fate was changed, is handed over whole.

pub mod decisions;
pub mod kept;
pub mod latest;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod probe;
pub mod record;
pub mod sampler;
pub mod settings;
pub mod spans;

#[cfg(test)]
pub(crate) mod fixture;

use std::sync::Arc;

use decisions::Decisions;
use kept::KeptCall;
use latest::LatestCalls;
use metrics::{DestinationMetrics, Metrics};
use otlp::{SpanExport, SpanQueue};
use record::{CallRecord, Ended, Sampling, TraceId};
use sampler::Sampler;
use settings::Settings;

/// Where everything that can be seen goes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    metrics: Arc<Metrics>,
    decisions: Decisions,
    latest: LatestCalls,
    sampler: Sampler,
    spans: Option<SpanQueue>,
}

/// What is still wanted of a call after it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "a set: each is wanted or not on its own"
)]
#[must_use = "a call that is wanted is handed over with `Telemetry::keep`"]
pub struct Wanted {
    decisions: bool,
    spans: bool,
    look: bool,
    access: bool,
}

impl Wanted {
    /// Whether the call's record must be built and handed over.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.decisions || self.spans || self.look || self.access
    }
}

impl Telemetry {
    /// What these settings ask for. The second is the exporter's task, where spans are exported: run it on the aux runtime.
    #[must_use]
    pub fn new(settings: Settings) -> (Self, Option<SpanExport>) {
        let metrics = Arc::new(Metrics::default());
        let pipeline = settings
            .export
            .map(|export| otlp::pipeline(export, metrics.clone()));
        let (queue, export) = pipeline.unzip();
        let inner = Inner {
            metrics,
            decisions: Decisions::default(),
            latest: LatestCalls::default(),
            sampler: settings.sampler,
            spans: queue,
        };
        (Self(Arc::new(inner)), export)
    }

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

    /// The latest calls, for the live page.
    #[must_use]
    pub fn latest_calls(&self) -> &LatestCalls {
        &self.0.latest
    }

    /// Whether a trace is exported; `parent` is the sampled flag of the caller's context, where there is one.
    ///
    /// The answer does not depend on whether weir has a collector: the flag goes upstream, where others may have one.
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
        let is_exported = match ended.sampling {
            Sampling::Sampled => true,
            Sampling::CallerDeclined => false,
            Sampling::PassedOver => ended.is_notable(),
        };
        Wanted {
            decisions: !ended.decisions.is_empty(),
            spans: is_exported && self.0.spans.is_some(),
            look: self.0.latest.wants(ended.is_notable()),
            access: log::access_is_on(),
        }
    }

    /// Keeps a counted call for whoever wants it.
    pub fn keep(&self, wanted: Wanted, record: CallRecord) {
        if wanted.decisions {
            self.0.decisions.keep(&record);
        }
        if wanted.look {
            self.0.latest.keep(&record);
        }
        if wanted.access {
            log::access(&record);
        }
        if let Some(spans) = self.0.spans.as_ref().filter(|_| wanted.spans) {
            spans.offer(KeptCall::from(record));
        }
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
