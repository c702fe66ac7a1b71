//! What happened at a destination, counted with relaxed atomics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Shed;

/// A destination's counts since it became known.
#[derive(Debug, Default)]
pub struct Counters {
    calls: AtomicU64,
    attempts: AtomicU64,
    retries: AtomicU64,
    waits: AtomicU64,
    observed_waits: AtomicU64,
    observed_sheds: AtomicU64,
    sheds: [AtomicU64; Shed::ALL.len()],
}

impl Counters {
    /// A call began.
    pub fn began(&self) {
        add(&self.calls);
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

    /// Attempts that passed in observe mode and would have waited.
    #[must_use]
    pub fn observed_waits(&self) -> u64 {
        read(&self.observed_waits)
    }

    /// Attempts that passed in observe mode and would have been refused.
    #[must_use]
    pub fn observed_sheds(&self) -> u64 {
        read(&self.observed_sheds)
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
