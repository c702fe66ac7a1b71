//! The latest decisions, with what they were decided by.
//!
//! A bounded ring behind one short lock, taken only when a decision happened or somebody asks. Decisions explain single
//! calls; how often each is made is counted by the [metrics](super::metrics).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::metrics::destinations::shortened;
use super::record::{CallRecord, TraceId, Verdict};

/// Most decisions that are kept; about 300 bytes each.
///
/// Enough for a minute of a shed every 60 ms. What is older is found in the spans.
pub const DECISIONS_MAX: usize = 1024;

/// Longest correlation id that is kept, in bytes. Ids come from outside; ours have 36.
pub const CORRELATION_ID_BYTES_MAX: usize = 128;

/// One decision of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionEntry {
    /// Counts up from 1 for as long as the process lives; gaps show what fell out of the ring.
    pub number: u64,
    /// When it was decided.
    pub at: SystemTime,
    /// What was decided.
    pub verdict: Verdict,
    /// Why, from a closed set.
    pub reason: &'static str,
    /// The destination's name.
    pub destination: Arc<str>,
    /// The route's name.
    pub route: Arc<str>,
    /// The policy's revision.
    pub revision: u64,
    /// The call's correlation id.
    pub correlation_id: Box<str>,
    /// The call's trace.
    pub trace_id: TraceId,
    /// The numbers it was decided by; the names carry the unit.
    pub inputs: Box<[(&'static str, f64)]>,
}

/// Which decisions are asked for.
#[derive(Debug, Clone, Default)]
pub struct DecisionFilter {
    /// Only those of this trace.
    pub trace_id: Option<TraceId>,
    /// Only those of this destination.
    pub destination: Option<String>,
}

impl DecisionFilter {
    fn takes(&self, entry: &DecisionEntry) -> bool {
        self.trace_id.is_none_or(|trace| trace == entry.trace_id)
            && self
                .destination
                .as_ref()
                .is_none_or(|name| **name == *entry.destination)
    }
}

/// The ring.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<DecisionEntry>,
    made: u64,
}

impl Decisions {
    /// Keeps the decisions of a finished call.
    pub(super) fn keep(&self, record: &CallRecord) {
        if record.decisions.is_empty() {
            return;
        }
        let correlation_id = readable(&record.correlation_id);
        // Built before the lock is taken: the lock covers moves only.
        let entries: Vec<_> = record
            .decisions
            .iter()
            .map(|decision| DecisionEntry {
                number: 0,
                at: record.began + decision.at,
                verdict: decision.what,
                reason: decision.reason,
                destination: record.destination.clone(),
                route: record.route.clone(),
                revision: record.revision,
                correlation_id: correlation_id.clone(),
                trace_id: record.trace_id,
                inputs: decision.inputs.as_slice().into(),
            })
            .collect();
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for mut entry in entries {
            ring.made += 1;
            entry.number = ring.made;
            if ring.entries.len() >= DECISIONS_MAX {
                ring.entries.pop_front();
            }
            ring.entries.push_back(entry);
        }
    }

    /// The latest decisions that `filter` takes, newest first, at most `count`.
    #[must_use]
    pub fn latest(&self, filter: &DecisionFilter, count: usize) -> Vec<DecisionEntry> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest_first = ring.entries.iter().rev();
        newest_first
            .filter(|entry| filter.takes(entry))
            .take(count)
            .cloned()
            .collect()
    }

    /// How many were made since the process started.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).made
    }
}

/// An outside id as text that is safe to show: printable ASCII, shortened.
pub(super) fn readable(id: &http::HeaderValue) -> Box<str> {
    shortened(id.to_str().unwrap_or_default(), CORRELATION_ID_BYTES_MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fixture;

    #[test]
    fn the_ring_keeps_the_newest_and_counts_all() {
        let decisions = Decisions::default();
        let mut record = fixture::shed_call();
        for revision in 0..2000 {
            record.revision = revision;
            decisions.keep(&record);
        }
        assert_eq!(decisions.made(), 2000);
        let latest = decisions.latest(&DecisionFilter::default(), usize::MAX);
        assert_eq!(latest.len(), DECISIONS_MAX);
        assert_eq!((latest[0].number, latest[0].revision), (2000, 1999));
        assert_eq!(latest.last().unwrap().revision, 2000 - 1024);
    }

    #[test]
    fn a_filter_finds_the_decisions_of_a_trace_or_a_destination() {
        let decisions = Decisions::default();
        let mut record = fixture::shed_call();
        decisions.keep(&record);
        record.trace_id = [9; 16];
        record.destination = Arc::from("other:80");
        decisions.keep(&record);
        let of_trace = DecisionFilter {
            trace_id: Some([9; 16]),
            ..DecisionFilter::default()
        };
        assert_eq!(decisions.latest(&of_trace, 10).len(), 1);
        let of_both = DecisionFilter {
            trace_id: Some([9; 16]),
            destination: Some("payments:80".to_owned()),
        };
        assert_eq!(decisions.latest(&of_both, 10), Vec::new());
    }

    #[test]
    fn a_long_correlation_id_is_shortened() {
        let id = http::HeaderValue::from_str(&"x".repeat(70_000)).unwrap();
        assert_eq!(readable(&id).len(), CORRELATION_ID_BYTES_MAX);
    }
}
