//! What is counted for each destination, and the bound on how many are told apart.
//!
//! A destination looks its [`DestinationMetrics`] up once and keeps it; recording a call is then a handful of relaxed
//! additions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::labels::{AttemptResult, ErrorKind, RetryResult};
use super::numbers::{CALL_BUCKETS, Counters, Histogram};
use crate::error::Shed;
use crate::telemetry::record::{
    AttemptEnd, AttemptRecord, Decision, Ended, Outcome, Protocol, Verdict,
};

/// Most destinations that have series of their own; the others share [`OTHER`].
///
/// A destination costs about 120 series and 1.2 KiB. A pod that calls more than this many services is a crawler, and its
/// single destinations say nothing.
pub const DESTINATIONS_MAX: usize = 256;

/// The label of all destinations beyond [`DESTINATIONS_MAX`].
pub const OTHER: &str = "other";

/// How long a destination must have been gone before another may take its place. It bounds how many series a day brings.
const KEPT_FOR: Duration = Duration::from_mins(10);

/// Longest label in bytes: a DNS name, a colon and a port.
const NAME_BYTES_MAX: usize = 259;

/// What is counted for one destination.
#[derive(Debug)]
pub struct DestinationMetrics {
    pub(super) name: Arc<str>,
    pub(super) calls: [Counters<Outcome, 6>; 3],
    pub(super) call_duration: Histogram<24>,
    pub(super) attempts: Counters<AttemptResult, 4>,
    pub(super) attempt_duration: Histogram<24>,
    pub(super) attempt_errors: Counters<ErrorKind, 10>,
    pub(super) retries: Counters<RetryResult, 5>,
    pub(super) rejected: Counters<Shed, 7>,
    pub(super) queue_wait: Histogram<24>,
}

impl DestinationMetrics {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            calls: Default::default(),
            call_duration: Histogram::new(&CALL_BUCKETS),
            attempts: Counters::default(),
            attempt_duration: Histogram::new(&CALL_BUCKETS),
            attempt_errors: Counters::default(),
            retries: Counters::default(),
            rejected: Counters::default(),
            queue_wait: Histogram::new(&CALL_BUCKETS),
        }
    }

    /// The `destination` label: the destination's name, or [`OTHER`].
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Calls that ended like this, of any protocol.
    #[must_use]
    pub fn calls_ended(&self, outcome: Outcome) -> u64 {
        self.calls
            .iter()
            .map(|outcomes| outcomes.get(outcome))
            .sum()
    }

    /// Attempts that were dispatched.
    #[must_use]
    pub fn attempts_sent(&self) -> u64 {
        self.attempts.sum()
    }

    /// Attempts that weir refused.
    #[must_use]
    pub fn attempts_shed(&self) -> u64 {
        self.rejected.sum()
    }

    /// Retries that were sent.
    #[must_use]
    pub fn retries_sent(&self) -> u64 {
        self.retries.get(RetryResult::Succeeded)
            + self.retries.get(RetryResult::Failed)
            + self.retries.get(RetryResult::Cancelled)
    }

    /// The distribution of whole calls' durations.
    #[must_use]
    pub fn call_durations(&self) -> super::numbers::Distribution {
        self.call_duration.read()
    }

    /// Counts a finished call. Relaxed additions only: eight for a call that was answered at the first try.
    pub(in crate::telemetry) fn count(&self, ended: &Ended<'_>) {
        let [http1, http2, grpc] = &self.calls;
        match ended.protocol {
            Protocol::Http1 => http1.add_one(ended.outcome),
            Protocol::Http2 => http2.add_one(ended.outcome),
            Protocol::Grpc => grpc.add_one(ended.outcome),
        }
        self.call_duration.observe(ended.duration);
        for (resend, attempt) in ended.attempts.iter().enumerate() {
            self.count_attempt(attempt);
            if resend > 0 {
                self.retries.add_one(retry_result(&attempt.end));
            }
        }
        for decision in ended.decisions {
            if decision.what == Verdict::RetryRefused {
                self.retries.add_one(RetryResult::Refused);
            }
        }
    }

    fn count_attempt(&self, attempt: &AttemptRecord) {
        self.queue_wait.observe(attempt.queued());
        if let AttemptEnd::Shed(shed) = attempt.end {
            self.rejected.add_one(shed);
        }
        let Some(dispatched) = attempt.dispatched else {
            return;
        };
        self.attempt_duration
            .observe(attempt.ended.saturating_sub(dispatched));
        match attempt.end {
            AttemptEnd::Response { .. } if attempt.end.is_server_error() => {
                self.attempts.add_one(AttemptResult::ServerError);
            }
            AttemptEnd::Response { .. } => self.attempts.add_one(AttemptResult::Answered),
            AttemptEnd::Failed(kind) => {
                self.attempts.add_one(AttemptResult::NoResponse);
                self.attempt_errors.add_one(ErrorKind::from(kind));
            }
            AttemptEnd::Shed(_) => {}
            AttemptEnd::Cancelled => self.attempts.add_one(AttemptResult::Cancelled),
        }
    }
}

fn retry_result(end: &AttemptEnd) -> RetryResult {
    match end {
        AttemptEnd::Response { .. } if end.is_server_error() => RetryResult::Failed,
        AttemptEnd::Response { .. } => RetryResult::Succeeded,
        AttemptEnd::Failed(_) => RetryResult::Failed,
        AttemptEnd::Shed(_) => RetryResult::Shed,
        AttemptEnd::Cancelled => RetryResult::Cancelled,
    }
}

/// Every destination's counts, by name.
#[derive(Debug)]
pub(super) struct Destinations {
    table: Mutex<HashMap<Arc<str>, Slot>>,
    other: Arc<DestinationMetrics>,
}

#[derive(Debug)]
struct Slot {
    metrics: Arc<DestinationMetrics>,
    asked: Instant,
}

impl Default for Destinations {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            other: Arc::new(DestinationMetrics::new(Arc::from(OTHER))),
        }
    }
}

impl Destinations {
    /// The counts of the destination `name`: its own, or those of [`OTHER`] when the table is full.
    pub(super) fn get(&self, name: &str, now: Instant) -> Arc<DestinationMetrics> {
        let name = shortened(name, NAME_BYTES_MAX);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = table.get_mut(name) {
            slot.asked = now;
            return slot.metrics.clone();
        }
        if table.len() >= DESTINATIONS_MAX && !make_room(&mut table, now) {
            return self.other.clone();
        }
        let name: Arc<str> = Arc::from(name);
        let metrics = Arc::new(DestinationMetrics::new(name.clone()));
        table.insert(
            name,
            Slot {
                metrics: metrics.clone(),
                asked: now,
            },
        );
        metrics
    }

    /// Everything that has been counted for, sorted by name, [`OTHER`] last and only when there is something in it.
    pub(super) fn all(&self) -> Vec<Arc<DestinationMetrics>> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = table.values().map(|slot| slot.metrics.clone()).collect();
        drop(table);
        all.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        if self.other.calls.iter().any(|calls| calls.sum() > 0) {
            all.push(self.other.clone());
        }
        all
    }
}

/// Removes the destination that has been gone for longest, if it has been gone for long.
fn make_room(table: &mut HashMap<Arc<str>, Slot>, now: Instant) -> bool {
    let gone = table
        .values()
        .filter(|slot| Arc::strong_count(&slot.metrics) == 1)
        .filter(|slot| now.duration_since(slot.asked) >= KEPT_FOR)
        .min_by_key(|slot| slot.asked)
        .map(|slot| slot.metrics.name.clone());
    gone.is_some_and(|name| table.remove(&name).is_some())
}

/// The longest beginning of `text` that has at most `bytes_max` bytes and ends between two characters.
pub(in crate::telemetry) fn shortened(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max))
        .unwrap_or(text)
}

/// How often each decision was made.
///
/// Reasons are words of ours, but of several modules: they are told apart as they come, up to a bound. A decision is rare
/// enough for a lock.
#[derive(Debug, Default)]
pub(super) struct DecisionCounts(Mutex<Vec<((Verdict, &'static str), u64)>>);

/// Most pairs of verdict and reason; far above what the code has.
const DECISIONS_MAX: usize = 96;

impl DecisionCounts {
    pub(super) fn count(&self, decisions: &[Decision]) {
        if decisions.is_empty() {
            return;
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for decision in decisions {
            let key = (decision.what, decision.reason);
            if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == key) {
                *count += 1;
            } else if counts.len() < DECISIONS_MAX {
                counts.push((key, 1));
            }
        }
    }

    pub(super) fn all(&self) -> Vec<((Verdict, &'static str), u64)> {
        let mut all = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        all.sort_unstable_by_key(|((verdict, reason), _)| (verdict.as_str(), *reason));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn destinations_beyond_the_bound_share_one_label() {
        let destinations = Destinations::default();
        let now = Instant::now();
        let held: Vec<_> = (0..DESTINATIONS_MAX)
            .map(|number| destinations.get(&format!("host-{number}:80"), now))
            .collect();
        assert_eq!(&**destinations.get("one-more:80", now).name(), OTHER);
        assert_eq!(&**destinations.get("host-7:80", now).name(), "host-7:80");
        drop(held);
        assert_eq!(&**destinations.get("one-more:80", now).name(), OTHER);
        let later = now + KEPT_FOR;
        assert_eq!(
            &**destinations.get("one-more:80", later).name(),
            "one-more:80"
        );
        assert_eq!(destinations.all().len(), DESTINATIONS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_in_use_is_never_replaced() {
        let destinations = Destinations::default();
        let now = Instant::now();
        let held = destinations.get("held:80", now);
        for number in 1..DESTINATIONS_MAX {
            destinations.get(&format!("host-{number}:80"), now);
        }
        let later = now + KEPT_FOR;
        for number in 0..DESTINATIONS_MAX {
            destinations.get(&format!("new-{number}:80"), later);
        }
        assert!(Arc::ptr_eq(&held, &destinations.get("held:80", later)));
    }

    #[test]
    fn a_name_is_cut_between_two_characters() {
        assert_eq!(shortened("aé", 2), "a");
        assert_eq!(shortened("aé", 3), "aé");
        assert_eq!(shortened("", 0), "");
    }
}
