//! How long to wait before an attempt is repeated: full jitter, on top of what the server asked for.
//!
//! The n-th backoff is drawn from `0..min(max, base * 2^(n-1))` ("full jitter", AWS Architecture Blog 2015): callers
//! that failed together do not come back together. A server's `Retry-After` is a lower bound, and the draw is added to
//! it, for the same reason.

use std::time::Duration;

use control_api::policy;

/// A rule's backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// The backoff of a rule.
    #[must_use]
    pub fn of(rule: &policy::Retry) -> Self {
        Self {
            base: rule.backoff_base,
            max: rule.backoff_max,
        }
    }

    /// The wait after the `attempt`-th try (from 1) failed.
    #[must_use]
    pub fn draw(self, attempt: u32, rng: &mut fastrand::Rng) -> Duration {
        self.ceiling(attempt).mul_f64(rng.f64())
    }

    /// The longest wait after the `attempt`-th try.
    #[must_use]
    pub fn ceiling(self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_maximum() {
        let backoff = Backoff::of(&policy::Retry::default());
        let ceilings: Vec<_> = (1..=6)
            .map(|attempt| backoff.ceiling(attempt).as_millis())
            .collect();
        assert_eq!(ceilings, [25, 50, 100, 200, 250, 250]);
    }

    #[test]
    fn draws_fill_the_whole_range() {
        let backoff = Backoff::of(&policy::Retry::default());
        let mut rng = fastrand::Rng::with_seed(1);
        let draws: Vec<_> = (0..1000).map(|_| backoff.draw(1, &mut rng)).collect();
        assert!(draws.iter().any(|draw| *draw < Duration::from_millis(2)));
        assert!(draws.iter().any(|draw| *draw > Duration::from_millis(23)));
    }

    proptest! {
        #[test]
        fn a_draw_is_never_above_its_ceiling(base in 0_u64..1 << 40, max in 0_u64..1 << 40, attempt: u32, seed: u64) {
            let backoff = Backoff { base: Duration::from_nanos(base), max: Duration::from_nanos(max) };
            let drawn = backoff.draw(attempt, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(drawn <= backoff.ceiling(attempt));
            prop_assert!(drawn <= backoff.max);
        }
    }
}
