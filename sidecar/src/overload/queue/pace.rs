//! What a queue goes by: how long a wait is good, how long a queue may be, for this destination.

use std::time::Duration;

use super::super::sketch::Summary;

/// What is known about the destination.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimates {
    /// Median time from dispatch to response head.
    pub p50: Option<Duration>,
    /// 99th percentile of the same.
    pub p99: Option<Duration>,
    /// Completions per second at the present limit.
    pub rate: Option<f64>,
}

/// The waits that tell a queue that absorbs bursts from one that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    // Longest good wait of a call without a deadline.
    pub(super) target: Duration,
    // How long a queue may be no good before it is called standing.
    pub(super) interval: Duration,
    // Longest burst that there is room for.
    burst: Duration,
}

impl Estimates {
    /// From what was measured: latencies, and completions per second if calls waited lately.
    ///
    /// Without such a rate it follows from the limit and the mean (Little's law: in flight = rate * time).
    #[must_use]
    pub fn new(latencies: &Summary, per_second: Option<f64>, limit: u32) -> Self {
        if !latencies.is_meaningful() {
            return Self {
                rate: per_second,
                ..Self::default()
            };
        }
        let mean = latencies.mean.filter(|mean| !mean.is_zero());
        Self {
            p50: latencies.p50,
            p99: latencies.p99,
            rate: per_second.or(mean.map(|mean| f64::from(limit) / mean.as_secs_f64())),
        }
    }

    /// None while nothing is known: what is long for one destination is short for another.
    pub(super) fn pace(&self, target: Option<Duration>) -> Option<Pace> {
        let (p50, p99) = (self.p50?, self.p99?);
        Some(Pace {
            target: target.unwrap_or((p50 / 10).max(TARGET_MIN)),
            interval: (p99 * 2).max(INTERVAL_MIN),
            burst: (p99 * 2).max(BURST_MIN),
        })
    }

    /// `max(2 * limit, rate * burst)`. Twice the limit alone would refuse a burst of 1.4 times the capacity and 100 ms
    /// on 8 slots; a longer queue would let calls wait longer than many callers do.
    pub(super) fn length(&self, limit: u32, pace: Option<Pace>) -> u32 {
        let burst = match (self.rate, pace) {
            (Some(rate), Some(pace)) => whole(rate * pace.burst.as_secs_f64()),
            _ => 0,
        };
        limit
            .saturating_mul(2)
            .max(burst)
            .clamp(LENGTH_MIN, LENGTH_MAX)
    }
}

// The shares were chosen by the simulation: with them, eight slots keep 90 % of their goodput from 1 to 5 times the load
// even where callers are less patient than a full queue is long, and refuse under 0.1 % in bursts of twice the load.
impl Pace {
    /// Longest wait that is still a good one, for a call that was allowed this much time.
    pub(super) fn target(self, allowed: Option<Duration>) -> Duration {
        (allowed.unwrap_or_default() / 8).max(self.target)
    }

    /// Longest wait in a standing queue.
    pub(super) fn patience(self, allowed: Option<Duration>) -> Duration {
        let patience = allowed.map_or(self.burst, |allowed| allowed / 2);
        patience.max(self.target * 2)
    }
}

/// The next whole number up, by way of a duration: there is no checked conversion from a float.
fn whole(number: f64) -> u32 {
    Duration::try_from_secs_f64(number).map_or(u32::MAX, |seconds| {
        let up = seconds.as_secs() + u64::from(seconds.subsec_nanos() > 0);
        u32::try_from(up).unwrap_or(u32::MAX)
    })
}

pub(super) const TARGET_MIN: Duration = Duration::from_millis(2);
const INTERVAL_MIN: Duration = Duration::from_millis(200);
const BURST_MIN: Duration = Duration::from_millis(50);
const LENGTH_MIN: u32 = 16;
const LENGTH_MAX: u32 = 10_000;
