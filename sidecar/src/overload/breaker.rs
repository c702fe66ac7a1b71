//! Leaves an endpoint alone for a while after failures in a row.
//!
//! ```text
//! closed  --failures in a row-->  ejected  --time is over, one call passes-->  probing
//!    ^                               ^                                            |  |
//!    |                               +---------- failed, for twice as long -------+  |
//!    +-------------------------------------- succeeded ----------------------------- +
//! ```
//! Only failures of the endpoint itself count (no connection, a reset, no answer). An answer that says "overloaded" is an
//! answer: it throttles, it does not eject.

use std::time::Duration;

use control_api::policy;
use tokio::time::Instant;

/// One endpoint's breaker.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    state: State,
    failures: u32,
    // Ejections since the endpoint last answered.
    ejections: u32,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Closed,
    Ejected {
        until: Instant,
    },
    Probing,
}

/// What a breaker says to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Go on.
    Pass,
    /// Go on, as the only one; whether the endpoint is back depends on this call. It must be answered by
    /// [`Breaker::succeeded`], [`Breaker::failed`] or [`Breaker::abandoned`].
    Probe,
    /// The endpoint is left alone; a new try makes sense after this time.
    Ejected(Duration),
}

/// What a breaker is doing, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// The endpoint is left alone.
    Ejected,
    /// One call is finding out whether the endpoint is back.
    Probing,
}

impl Breaker {
    /// Asks for a call to pass.
    pub fn gate(&mut self, setting: policy::Breaker, now: Instant) -> Gate {
        match self.state {
            State::Closed => Gate::Pass,
            State::Ejected { until } if now < until => Gate::Ejected(until - now),
            // Ejected => Probing
            State::Ejected { .. } => {
                self.state = State::Probing;
                Gate::Probe
            }
            State::Probing => Gate::Ejected(setting.ejection_min),
        }
    }

    /// The endpoint answered.
    pub fn succeeded(&mut self) {
        // A call that was sent before the ejection proves nothing about now, but the probe's answer does.
        if matches!(self.state, State::Ejected { .. }) {
            return;
        }
        // Probing => Closed
        *self = Self::default();
    }

    /// The endpoint failed. Answers the length of the ejection if that ejected it.
    pub fn failed(&mut self, setting: policy::Breaker, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Closed if self.failures < setting.consecutive_failures.max(1) => None,
            // Closed => Ejected, Probing => Ejected
            State::Closed | State::Probing => {
                let doublings = self.ejections.min(31);
                let length = setting
                    .ejection_min
                    .saturating_mul(1 << doublings)
                    .min(setting.ejection_max);
                self.ejections = self.ejections.saturating_add(1);
                self.state = State::Ejected {
                    until: now + length,
                };
                Some(length)
            }
            State::Ejected { .. } => None,
        }
    }

    /// The probe went without an answer either way (its caller left): the next call probes.
    pub fn abandoned(&mut self, now: Instant) {
        // Probing => Ejected, its time already over
        if matches!(self.state, State::Probing) {
            self.state = State::Ejected { until: now };
        }
    }

    /// What it is doing. An ejection whose time is over keeps nobody away, though the next call will be a probe.
    #[must_use]
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Ejected { until } if now < until => BreakerState::Ejected,
            State::Closed | State::Ejected { .. } => BreakerState::Closed,
            State::Probing => BreakerState::Probing,
        }
    }

    /// Whether calls pass without being probes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: policy::Breaker = policy::Breaker {
        consecutive_failures: 3,
        ejection_min: Duration::from_secs(1),
        ejection_max: Duration::from_secs(5),
    };

    fn ejected(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            breaker.failed(SETTING, now);
        }
        breaker
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            assert_eq!(breaker.failed(SETTING, now), None);
            assert_eq!(breaker.failed(SETTING, now), None);
            breaker.succeeded();
        }
        assert_eq!(breaker.gate(SETTING, now), Gate::Pass);
        breaker.failed(SETTING, now);
        breaker.failed(SETTING, now);
        assert_eq!(breaker.failed(SETTING, now), Some(SETTING.ejection_min));
        assert_eq!(
            breaker.gate(SETTING, now),
            Gate::Ejected(SETTING.ejection_min)
        );
    }

    #[test]
    fn one_call_probes_and_the_others_stay_away() {
        let now = Instant::now();
        let mut breaker = ejected(now);
        let over = now + SETTING.ejection_min;
        assert_eq!(breaker.gate(SETTING, over), Gate::Probe);
        assert!(matches!(breaker.gate(SETTING, over), Gate::Ejected(_)));
        breaker.succeeded();
        assert_eq!(breaker.gate(SETTING, over), Gate::Pass);
        assert!(breaker.is_closed());
    }

    #[test]
    fn an_abandoned_probe_is_made_again() {
        let now = Instant::now();
        let mut breaker = ejected(now);
        let over = now + SETTING.ejection_min;
        assert_eq!(breaker.gate(SETTING, over), Gate::Probe);
        breaker.abandoned(over);
        assert_eq!(breaker.gate(SETTING, over), Gate::Probe);
    }

    #[test]
    fn each_failed_probe_doubles_the_ejection_up_to_its_maximum() {
        let mut now = Instant::now();
        let mut breaker = ejected(now);
        for seconds in [2, 4, 5, 5] {
            now += SETTING.ejection_max;
            assert_eq!(breaker.gate(SETTING, now), Gate::Probe);
            assert_eq!(
                breaker.failed(SETTING, now),
                Some(Duration::from_secs(seconds))
            );
        }
    }

    #[test]
    fn answers_to_calls_sent_before_the_ejection_change_nothing() {
        let now = Instant::now();
        let mut breaker = ejected(now);
        breaker.succeeded();
        assert_eq!(breaker.failed(SETTING, now), None);
        assert_eq!(breaker.state(now), BreakerState::Ejected);
    }
}
