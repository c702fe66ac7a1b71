//! What happened at a destination, counted with relaxed atomics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Shed;
use crate::telemetry::record::Outcome;

/// A destination's counts since it became known.
#[derive(Debug, Default)]
pub struct Counters {
    calls: AtomicU64,
    attempts: AtomicU64,
    retries: AtomicU64,
    waits: AtomicU64,
    observed_waits: AtomicU64,
    observed_sheds: AtomicU64,
    observed_retries: AtomicU64,
    observed_retry_refusals: AtomicU64,
    sheds: [AtomicU64; Shed::ALL.len()],
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

impl Counters {
    /// A call began.
    pub fn began(&self) {
        add(&self.calls);
    }

    /// A call ended.
    pub fn ended(&self, outcome: Outcome) {
        let counts = Outcome::ALL.iter().zip(&self.outcomes);
        for (_, count) in counts.filter(|(how, _)| **how == outcome) {
            add(count);
        }
    }

    /// A call is sent again.
    pub fn retried(&self) {
        add(&self.retries);
    }

    /// An attempt got its permit.
    pub(super) fn attempted(&self) {
        add(&self.attempts);
    }

    /// An attempt had to wait for its permit.
    pub(super) fn waited(&self) {
        add(&self.waits);
    }

    /// An attempt passed in observe mode that would have waited.
    pub(super) fn would_have_waited(&self) {
        add(&self.observed_waits);
    }

    /// An attempt passed in observe mode that would have been refused.
    pub(super) fn would_have_shed(&self) {
        add(&self.observed_sheds);
    }

    /// A call ended in observe mode that would have been sent again.
    pub fn would_have_retried(&self) {
        add(&self.observed_retries);
    }

    /// A call ended in observe mode whose retry would have been refused.
    pub fn would_have_refused_a_retry(&self) {
        add(&self.observed_retry_refusals);
    }

    /// An attempt was refused.
    pub(super) fn shed(&self, shed: Shed) {
        let counts = Shed::ALL.iter().zip(&self.sheds);
        for (_, count) in counts.filter(|(reason, _)| **reason == shed) {
            add(count);
        }
    }

    /// Calls that began.
    #[must_use]
    pub fn calls(&self) -> u64 {
        read(&self.calls)
    }

    /// Calls that ended, by how.
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().zip(self.outcomes.iter().map(read))
    }

    /// Attempts that got a permit.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        read(&self.attempts)
    }

    /// Retries.
    #[must_use]
    pub fn retries(&self) -> u64 {
        read(&self.retries)
    }

    /// Attempts that had to wait for their permit.
    #[must_use]
    pub fn waits(&self) -> u64 {
        read(&self.waits)
    }

    /// What would have happened to calls that passed in observe mode, by what it would have been.
    pub fn observed(&self) -> [(&'static str, u64); 4] {
        [
            ("queued", read(&self.observed_waits)),
            ("shed", read(&self.observed_sheds)),
            ("retried", read(&self.observed_retries)),
            ("retry_refused", read(&self.observed_retry_refusals)),
        ]
    }

    /// Refused attempts, by reason.
    pub fn sheds(&self) -> impl Iterator<Item = (Shed, u64)> {
        Shed::ALL.into_iter().zip(self.sheds.iter().map(read))
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
