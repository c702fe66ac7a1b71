//! The latest decisions, with what they were decided by.
//!
//! A bounded ring for each kind, behind one short lock that is taken only when a decision happened or somebody asks: the
//! many waits of a steady queue push out older waits, and never the one retry or ejection that explains them. Decisions
//! explain single calls; how often each is made is counted by the [metrics](super::metrics).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use control_api::view;

use super::kept::{hex, readable};
use super::metrics::Closed as _;
use super::record::{CallRecord, TraceId, Verdict};

/// Most decisions of one kind that are kept; about 300 bytes each, and 700 KiB if every kind comes that often.
///
/// Enough for 15 s of a shed every 60 ms. What is older is found in the spans.
pub const DECISIONS_MAX: usize = 256;

/// One decision of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionEntry {
    /// Counts up from 1 for as long as the process lives.
    pub sequence: u64,
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

impl DecisionEntry {
    /// As the control API and the live page show it.
    #[must_use]
    pub fn view(&self) -> view::Decision {
        let inputs = self.inputs.iter();
        view::Decision {
            sequence: self.sequence,
            at: self.at.into(),
            what: self.verdict.as_str().to_owned(),
            reason: self.reason.to_owned(),
            destination: self.destination.to_string(),
            route: self.route.to_string(),
            revision: self.revision,
            correlation_id: Some(self.correlation_id.to_string()),
            trace_id: Some(hex(&self.trace_id)),
            inputs: inputs
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect(),
        }
    }
}

/// The rings.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<Rings>);

#[derive(Debug, Default)]
struct Rings {
    /// One a verdict, in the verdicts' order.
    of_a_kind: [VecDeque<DecisionEntry>; Verdict::ALL.len()],
    made: u64,
}

impl Rings {
    fn push(&mut self, mut entry: DecisionEntry) {
        self.made += 1;
        entry.sequence = self.made;
        let Some(ring) = self.of_a_kind.get_mut(entry.verdict.place()) else {
            return;
        };
        if ring.len() >= DECISIONS_MAX {
            ring.pop_front();
        }
        ring.push_back(entry);
    }
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
                sequence: 0,
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
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            rings.push(entry);
        }
    }

    /// The decisions that `filter` accepts, the oldest first; of those the latest, if it has a limit.
    #[must_use]
    pub fn answer(&self, filter: &view::DecisionFilter) -> Vec<view::Decision> {
        let wanted = Wanted::from(filter);
        let rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = rings.of_a_kind.iter().flatten();
        let mut chosen: Vec<_> = all.filter(|entry| wanted.takes(entry)).collect();
        chosen.sort_unstable_by_key(|entry| entry.sequence);
        let beyond = chosen
            .len()
            .saturating_sub(filter.limit.unwrap_or(usize::MAX));
        let chosen: Vec<_> = chosen.into_iter().skip(beyond).cloned().collect();
        // Text is made from them after the lock is given back.
        drop(rings);
        chosen.iter().map(DecisionEntry::view).collect()
    }

    /// How many were made since the process started.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).made
    }
}

/// A filter, parsed once so that it compares without making text.
struct Wanted<'a> {
    trace: Option<(&'a str, Option<TraceId>)>,
    destination: Option<&'a str>,
    since: u64,
}

impl<'a> From<&'a view::DecisionFilter> for Wanted<'a> {
    fn from(filter: &'a view::DecisionFilter) -> Self {
        Self {
            trace: filter.trace.as_deref().map(|text| (text, trace_id(text))),
            destination: filter.destination.as_deref(),
            since: filter.since.unwrap_or(0),
        }
    }
}

impl Wanted<'_> {
    fn takes(&self, entry: &DecisionEntry) -> bool {
        self.trace
            .is_none_or(|(text, id)| id == Some(entry.trace_id) || *text == *entry.correlation_id)
            && self
                .destination
                .is_none_or(|name| *name == *entry.destination)
            && entry.sequence > self.since
    }
}

/// 32 hexadecimal digits as a trace id.
fn trace_id(text: &str) -> Option<TraceId> {
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| is_id)?;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fixture;

    fn ask(trace: Option<&str>, destination: Option<&str>) -> view::DecisionFilter {
        view::DecisionFilter {
            trace: trace.map(str::to_owned),
            destination: destination.map(str::to_owned),
            ..view::DecisionFilter::default()
        }
    }

    #[test]
    fn a_ring_keeps_the_newest_and_counts_all() {
        let decisions = Decisions::default();
        let mut record = fixture::shed_call();
        for revision in 0..2000 {
            record.revision = revision;
            decisions.keep(&record);
        }
        assert_eq!(decisions.made(), 2000);
        let kept = decisions.answer(&ask(None, None));
        assert_eq!(kept.len(), DECISIONS_MAX);
        let last = kept.last().unwrap();
        assert_eq!((last.sequence, last.revision), (2000, 1999));
        assert_eq!(kept[0].revision, 2000 - 256);
    }

    #[test]
    fn many_waits_push_out_neither_a_shed_nor_the_order_of_time() {
        let decisions = Decisions::default();
        let mut wait = fixture::shed_call();
        for decision in &mut wait.decisions {
            decision.what = Verdict::Queued;
        }
        decisions.keep(&fixture::shed_call());
        for _ in 0..5000 {
            decisions.keep(&wait);
        }
        decisions.keep(&fixture::shed_call());
        let kept = decisions.answer(&ask(None, None));
        let sheds: Vec<_> = kept.iter().filter(|kept| kept.what == "shed").collect();
        assert_eq!(sheds.len(), 2);
        assert_eq!(kept.len(), DECISIONS_MAX + 2);
        assert!(kept.is_sorted_by_key(|kept| kept.sequence));
    }

    #[test]
    fn a_filter_finds_the_decisions_of_a_trace_a_correlation_id_or_a_destination() {
        let decisions = Decisions::default();
        let mut record = fixture::shed_call();
        decisions.keep(&record);
        record.trace_id = [9; 16];
        record.destination = Arc::from("other:80");
        decisions.keep(&record);
        let count = |filter| decisions.answer(&filter).len();
        assert_eq!(count(ask(Some(&"09".repeat(16)), None)), 1);
        assert_eq!(
            count(ask(Some("0191b2c4-7d1a-7000-8000-000000000001"), None)),
            2
        );
        assert_eq!(count(ask(Some(&"09".repeat(16)), Some("payments:80"))), 0);
        assert_eq!(count(ask(Some("+9"), None)), 0);
        let since = view::DecisionFilter {
            since: Some(1),
            ..view::DecisionFilter::default()
        };
        assert_eq!(count(since), 1);
    }

    #[test]
    fn a_limit_keeps_the_latest_and_the_oldest_of_them_comes_first() {
        let decisions = Decisions::default();
        for _ in 0..5 {
            decisions.keep(&fixture::shed_call());
        }
        let limited = view::DecisionFilter {
            limit: Some(2),
            ..view::DecisionFilter::default()
        };
        let sequences: Vec<_> = decisions
            .answer(&limited)
            .iter()
            .map(|d| d.sequence)
            .collect();
        assert_eq!(sequences, [4, 5]);
    }

    #[test]
    fn a_decision_is_shown_with_its_inputs() {
        let decisions = Decisions::default();
        decisions.keep(&fixture::shed_call());
        let shown = decisions.answer(&ask(None, None)).remove(0);
        assert_eq!(
            (shown.what.as_str(), shown.reason.as_str()),
            ("shed", "queue_full")
        );
        assert_eq!(shown.inputs["queue_length"], 64.0);
        assert_eq!(shown.trace_id.unwrap(), "ab".repeat(16));
    }
}
