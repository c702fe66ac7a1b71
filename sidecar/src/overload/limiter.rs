//! Answers how many attempts a destination may have in flight.
//!
//! Today the answer is the policy's number. The shape is that of a limiter that learns: every attempt that ended is
//! recorded with what was going on while it ran, and the limit is asked for again after each. A learning rule needs
//! nothing else from its callers: no window, no probe and no state shared between destinations.

use std::time::Duration;

use tokio::time::Instant;

/// How many attempts may be in flight.
#[derive(Debug, Clone)]
pub struct Limiter {
    limit: u32,
}

/// What an ended attempt says about its destination's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleOutcome {
    /// Answered.
    Success,
    /// Refused for overload.
    Overload,
    /// Not answered in time.
    TimedOut,
    /// Says nothing about load: a connect failure, an application's error, a cancelled call, a stream, an upgrade.
    Ignore,
}

/// One ended attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// What it came to.
    pub outcome: SampleOutcome,
    /// From its dispatch to its response head; never with the wait for the permit.
    pub rtt: Duration,
    /// How long the attempt was given at its dispatch. None: without end.
    pub allowed: Option<Duration>,
}

/// What was going on while an attempt ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Attempts in flight when it was dispatched, itself included.
    pub in_flight: u32,
    /// Whether somebody waited for a permit since it was dispatched. Without, more permits would have changed nothing.
    pub waited_behind: bool,
}

impl Limiter {
    /// A limiter that starts with the policy's limit.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit: limit.max(1),
        }
    }

    /// Most attempts in flight; at least 1, so that a destination's recovery is always seen.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes a new setting; what was learnt under the old one is kept where it still applies.
    pub fn configure(&mut self, limit: u32) {
        self.limit = limit.max(1);
    }

    /// Takes an ended attempt into account.
    #[allow(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "a fixed limit learns nothing; callers are already written for one that does"
    )]
    pub fn record(&mut self, _sample: &Sample, _load: Load, _now: Instant) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_limit_is_not_moved_by_samples() {
        let mut limiter = Limiter::new(8);
        let sample = Sample {
            outcome: SampleOutcome::Overload,
            rtt: Duration::from_secs(1),
            allowed: None,
        };
        let load = Load {
            in_flight: 8,
            waited_behind: true,
        };
        limiter.record(&sample, load, Instant::now());
        assert_eq!(limiter.limit(), 8);
        limiter.configure(0);
        assert_eq!(limiter.limit(), 1, "never below one attempt");
    }
}
