//! Whether a proxy is still the process that it was, or started again.
//!
//! Its clock is not ours, so what is compared are lengths: it must have grown older by as much as passed here. A policy
//! under which it is killed (out of memory, a probe, a crash) shows so, though it answers again a second later.

use std::time::Duration;

use control_api::view::Status;
use tokio::time::Instant;

/// What a proxy said of itself at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// When it was asked, and when it had answered: it looked at its clock between the two.
    asked: Instant,
    answered: Instant,
    uptime: Duration,
    /// It was told to end: what probes kill is given time for its calls.
    is_draining: bool,
    revision: u64,
}

/// What became of a proxy since it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// It is the same process, and runs what was written.
    Same,
    /// It runs another revision, which is somebody else's.
    Replaced(u64),
    /// It ended, and another runs what was written, or another revision; or it is about to end.
    Ended { other: Option<u64> },
}

impl Life {
    /// What the status said that was asked for at `asked`.
    pub(super) fn of(status: &Status, asked: Instant, answered: Instant) -> Self {
        Self {
            asked,
            answered,
            uptime: Duration::from_millis(status.uptime_ms),
            is_draining: status.draining,
            revision: status.policy.revision.revision,
        }
    }

    /// What became of it since it was `then`, and was given revision `written`.
    pub(super) fn since(&self, then: &Self, written: Option<u64>) -> Since {
        let other = Some(self.revision).filter(|revision| Some(*revision) != written);
        match (self.is_draining || self.is_another_than(then), other) {
            (true, other) => Since::Ended { other },
            (false, Some(other)) => Since::Replaced(other),
            (false, None) => Since::Same,
        }
    }

    /// Whether it started again since `earlier`. However slow the answers are, one that did not start is never taken for
    /// one that did.
    fn is_another_than(&self, earlier: &Self) -> bool {
        let passed_least = self.asked.saturating_duration_since(earlier.answered);
        self.uptime < earlier.uptime
            || self.uptime + TOLERANCE < earlier.uptime.saturating_add(passed_least)
    }
}

/// Clocks of two machines differ by at most 500 millionths (`adjtimex(2)`): 1.8 s in the longest watch.
const TOLERANCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asked `asked` ms after a start, answered `took` ms later.
    fn life(start: Instant, asked: u64, took: u64, uptime_ms: u64) -> Life {
        let asked = start + Duration::from_millis(asked);
        let status = Status {
            uptime_ms,
            ..Status::default()
        };
        Life::of(&status, asked, asked + Duration::from_millis(took))
    }

    #[test]
    fn a_proxy_that_started_again_is_younger_than_it_must_be() {
        let start = Instant::now();
        let written = life(start, 0, 100, 60_000);
        assert!(life(start, 30_000, 100, 2_000).is_another_than(&written));
        // It is older than it was, and still too young.
        let young = life(start, 0, 100, 5_000);
        assert!(life(start, 30_000, 100, 29_000).is_another_than(&young));
        assert!(!life(start, 30_000, 100, 35_000).is_another_than(&young));
    }

    #[test]
    fn clocks_that_differ_a_little_are_no_restart() {
        let start = Instant::now();
        let written = life(start, 0, 0, 60_000);
        assert!(!life(start, 3_600_000, 0, 3_658_200).is_another_than(&written));
        assert!(!life(start, 30_000, 0, 90_300).is_another_than(&written));
    }

    #[test]
    fn another_revision_was_written_by_another_or_came_with_the_start() {
        let start = Instant::now();
        let then = life(start, 0, 0, 60_000);
        let later = |uptime_ms, revision| Life {
            revision,
            ..life(start, 30_000, 0, uptime_ms)
        };
        let since = |life: Life| life.since(&then, Some(2));
        assert_eq!(since(later(90_000, 2)), Since::Same);
        assert_eq!(since(later(90_000, 3)), Since::Replaced(3));
        assert_eq!(since(later(9_000, 2)), Since::Ended { other: None });
        let other = Some(3);
        assert_eq!(since(later(9_000, 3)), Since::Ended { other });
        let draining = Life {
            is_draining: true,
            ..later(90_000, 2)
        };
        assert_eq!(since(draining), Since::Ended { other: None });
    }

    proptest! {
        #[test]
        fn slow_answers_are_never_a_restart(
            age in 0_u64..1_000_000, took in 0_u64..45_000, at in 0_u64..45_000,
            passed in 0_u64..3_600_000, later_took in 0_u64..45_000, later_at in 0_u64..45_000,
        ) {
            let start = Instant::now();
            let earlier = life(start, 0, took, age + at.min(took));
            let asked = took + passed;
            let later = life(start, asked, later_took, age + asked + later_at.min(later_took));
            prop_assert!(!later.is_another_than(&earlier));
        }

        #[test]
        fn a_start_under_a_watch_is_always_seen(
            watch in 1_000_u64..3_600_000, more in 0_u64..1_000_000, started in 0_u64..3_600_000,
        ) {
            // Before the push calls were counted for as long, so the proxy is as old at least.
            let start = Instant::now();
            let written = life(start, 0, 0, watch + more);
            let started = 1 + started % watch;
            prop_assert!(life(start, watch, 0, watch - started).is_another_than(&written));
        }
    }
}
