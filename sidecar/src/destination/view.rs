//! A destination, for people: its state in one word, and its numbers.

use std::time::Duration;

use control_api::view::{self, DestinationState, Latency};
use tokio::time::Instant;

use super::admission::Snapshot;
use super::{Destination, lock};

impl Destination {
    /// How it is, in one word.
    #[must_use]
    pub fn state(&self, now: Instant) -> DestinationState {
        self.state_of(&self.admission.snapshot(now), now)
    }

    /// What the control API shows of it.
    #[must_use]
    pub fn view(&self, now: Instant) -> view::Destination {
        let snapshot = self.admission.snapshot(now);
        let latency = self.latency.summary(now);
        let last_error = lock(&self.last_error).clone();
        let ejected_endpoints = self.endpoints.troubled(now).len();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let sheds = self.counters.sheds().filter(|(_, count)| *count > 0);
        let outcomes = self.counters.outcomes();
        let observed = self.counters.observed().into_iter();
        view::Destination {
            name: self.name.to_string(),
            scope: self.scope.as_deref().map(str::to_owned),
            state: self.state_of(&snapshot, now),
            limit: snapshot.limit,
            in_flight: snapshot.in_flight,
            queue_length: snapshot.waiting,
            oldest_wait_ms: milliseconds(snapshot.oldest_wait),
            budget_balance: f64::from(self.budget.balance_milli(now)) / 1e3,
            latency: Latency {
                p50_ms: latency.p50.map(milliseconds),
                p99_ms: latency.p99.map(milliseconds),
            },
            calls: self.counters.calls(),
            outcomes: outcomes
                .filter(|(_, count)| *count > 0)
                .map(|(outcome, count)| (outcome.as_str().to_owned(), count))
                .collect(),
            retries: self.counters.retries(),
            sheds: sheds
                .map(|(shed, count)| (shed.reason().to_owned(), count))
                .collect(),
            observed: observed
                .filter(|(_, count)| *count > 0)
                .map(|(what, count)| (what.to_owned(), count))
                .collect(),
            ejected_endpoints: u32::try_from(ejected_endpoints).unwrap_or(u32::MAX),
            last_error_at: last_error.as_ref().map(|last| last.at),
            last_error: last_error.map(|last| last.text),
        }
    }

    /// The gravest of what is going on.
    fn state_of(&self, snapshot: &Snapshot, now: Instant) -> DestinationState {
        let shed_lately = snapshot
            .last_shed
            .is_some_and(|at| now.saturating_duration_since(at) < LATELY);
        if !self.endpoints.troubled(now).is_empty() {
            DestinationState::Probing
        } else if shed_lately || snapshot.is_standing {
            DestinationState::Shedding
        } else if self.budget.balance_milli(now) < 1000 {
            DestinationState::Exhausted
        } else if snapshot.waiting > 0 {
            DestinationState::Queueing
        } else {
            DestinationState::Healthy
        }
    }
}

const LATELY: Duration = Duration::from_secs(1);
