//! The attempt timeout that a destination's own latencies suggest.
//!
//! ```text
//! highest quantile q with n >= 10 / (1 - q) answers:  q = .999 x 1.5 | q = .99 x 2 | q = .95 x 4
//! with 20 answers or more: mean + 4 standard deviations;  with fewer: none
//! never below max(10 ms, 3 * p50)
//! ```
//! Attempts that timed out are censored: without them the quantiles shrink, and so would the timeout, and more would time
//! out. So while more than 1 % are censored it never falls, and grows by a quarter every five seconds (at most twice its
//! value a minute), for the destination may have become slower for good. While the destination is overloaded it stands
//! still: waiting longer for an overloaded server makes it worse.

use std::time::Duration;

use tokio::time::Instant;

use super::sketch::Summary;

/// A destination's adaptive attempt timeout.
#[derive(Debug, Clone, Default)]
pub struct AdaptiveTimeout {
    current: Option<Duration>,
    growth: Option<Growth>,
}

#[derive(Debug, Clone)]
struct Growth {
    // The minute in which the timeout may at most double.
    minute: Instant,
    at_begin: Duration,
    last: Instant,
}

impl AdaptiveTimeout {
    /// The timeout, if enough is known for one.
    #[must_use]
    pub fn current(&self) -> Option<Duration> {
        self.current
    }

    /// Takes the latest latencies into account; to be called about once a second.
    pub fn update(&mut self, summary: &Summary, load: DestinationLoad, now: Instant) {
        if load == DestinationLoad::Overloaded {
            return;
        }
        let suggested = suggestion(summary);
        if is_censored(summary) {
            let Some(current) = self.current else { return };
            self.current = Some(self.grown(current, now).max(suggested.unwrap_or_default()));
        } else {
            self.growth = None;
            self.current = suggested.or(self.current);
        }
    }

    fn grown(&mut self, current: Duration, now: Instant) -> Duration {
        let fresh = Growth {
            minute: now,
            at_begin: current,
            last: now,
        };
        let growth = self.growth.get_or_insert_with(|| fresh.clone());
        if now.saturating_duration_since(growth.minute) >= Duration::from_mins(1) {
            *growth = fresh;
        } else if now.saturating_duration_since(growth.last) >= Duration::from_secs(5) {
            growth.last = now;
            return current.mul_f64(1.25).min(growth.at_begin * 2).min(MAX);
        }
        current
    }
}

/// Whether a destination's queue is standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationLoad {
    /// It keeps up.
    Normal,
    /// It does not.
    Overloaded,
}

fn suggestion(summary: &Summary) -> Option<Duration> {
    let wide = match summary.count {
        10_000.. => summary.p999?.mul_f64(1.5),
        1_000.. => summary.p99? * 2,
        200.. => summary.p95? * 4,
        20.. => summary.mean? + summary.deviation? * 4,
        _ => return None,
    };
    Some(wide.max(summary.p50? * 3).clamp(MIN, MAX))
}

fn is_censored(summary: &Summary) -> bool {
    let all = u64::from(summary.count) + u64::from(summary.censored);
    u64::from(summary.censored) * 100 > all
}

const MIN: Duration = Duration::from_millis(10);
const MAX: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(count: u32, milliseconds: u64) -> Summary {
        let all = Some(Duration::from_millis(milliseconds));
        Summary {
            count,
            censored: 0,
            p50: all,
            p95: all,
            p99: all,
            p999: all,
            mean: all,
            deviation: Some(Duration::ZERO),
        }
    }

    #[test]
    fn few_answers_suggest_nothing() {
        let mut timeout = AdaptiveTimeout::default();
        timeout.update(&answers(19, 100), DestinationLoad::Normal, Instant::now());
        assert_eq!(timeout.current(), None);
    }

    #[test]
    fn more_answers_allow_a_tighter_timeout_but_never_below_three_medians() {
        for (count, milliseconds) in [(20, 300), (200, 400), (1_000, 300), (10_000, 300)] {
            let mut timeout = AdaptiveTimeout::default();
            timeout.update(
                &answers(count, 100),
                DestinationLoad::Normal,
                Instant::now(),
            );
            assert_eq!(timeout.current(), Some(Duration::from_millis(milliseconds)));
        }
    }

    #[test]
    fn censored_attempts_never_shrink_it_and_let_it_double_in_a_minute_at_most() {
        let mut now = Instant::now();
        let mut timeout = AdaptiveTimeout::default();
        timeout.update(&answers(10_000, 100), DestinationLoad::Normal, now);
        let before = timeout.current().unwrap();
        let censored = Summary {
            censored: 500,
            ..answers(10_000, 50)
        };
        for _ in 0..59 {
            now += Duration::from_secs(1);
            timeout.update(&censored, DestinationLoad::Normal, now);
            let grown = timeout.current().unwrap();
            assert!(grown >= before && grown <= before * 2, "{grown:?}");
        }
        assert_eq!(timeout.current(), Some(before * 2));
    }

    #[test]
    fn it_stands_still_while_the_destination_is_overloaded() {
        let now = Instant::now();
        let mut timeout = AdaptiveTimeout::default();
        timeout.update(&answers(10_000, 100), DestinationLoad::Normal, now);
        timeout.update(&answers(10_000, 900), DestinationLoad::Overloaded, now);
        assert_eq!(timeout.current(), Some(Duration::from_millis(300)));
    }
}
