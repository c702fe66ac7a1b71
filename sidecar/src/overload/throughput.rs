//! Measures how many calls a destination completes per second while calls wait for it.
//!
//! Only then is the rate its capacity: at other times it is merely what was asked of it. The queue predicts waits
//! with it (Little's law: wait = ahead / rate).

use std::time::Duration;

use tokio::time::Instant;

/// Completions per second under saturation.
#[derive(Debug, Clone, Default)]
pub struct Throughput {
    window: Option<Window>,
    measured: Option<Measured>,
}

#[derive(Debug, Clone)]
struct Window {
    since: Instant,
    completions: u32,
}

#[derive(Debug, Clone)]
struct Measured {
    per_second: f64,
    at: Instant,
}

impl Throughput {
    /// A call completed while others waited.
    pub fn completed(&mut self, now: Instant) {
        let window = self.window.get_or_insert(Window {
            since: now,
            completions: 0,
        });
        window.completions = window.completions.saturating_add(1);
        let elapsed = now.saturating_duration_since(window.since);
        // The completion that opens a window is its begin, not a part of it.
        let counted = window.completions - 1;
        if elapsed >= WINDOW_MIN && counted >= COMPLETIONS_MIN {
            let latest = f64::from(counted) / elapsed.as_secs_f64();
            let per_second = match &self.measured {
                Some(before) => before.per_second + WEIGHT * (latest - before.per_second),
                None => latest,
            };
            self.measured = Some(Measured {
                per_second,
                at: now,
            });
            self.window = None;
        }
    }

    /// Nobody waits any longer: what was counted since the last window does not show the capacity.
    pub fn idle(&mut self) {
        self.window = None;
    }

    /// Completions per second, if they were measured lately.
    #[must_use]
    pub fn per_second(&self, now: Instant) -> Option<f64> {
        self.measured
            .as_ref()
            .filter(|measured| now.saturating_duration_since(measured.at) <= VALID)
            .map(|measured| measured.per_second)
    }
}

/// Shortest window: long against a scheduler's hiccup.
const WINDOW_MIN: Duration = Duration::from_millis(100);
/// Fewest completions that make a rate: a standard error of about a third, before smoothing.
const COMPLETIONS_MIN: u32 = 10;
/// Weight of the latest window.
const WEIGHT: f64 = 0.3;
/// An older rate says nothing about the capacity of now.
const VALID: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_busy_times_only() {
        let start = Instant::now();
        let mut throughput = Throughput::default();
        assert_eq!(throughput.per_second(start), None);
        let mut now = start;
        for _ in 0..60 {
            now += Duration::from_millis(5);
            throughput.completed(now);
        }
        let busy = throughput.per_second(now).unwrap();
        assert!((195.0..205.0).contains(&busy), "{busy}");
        // A minute of one call a second with nobody waiting is no capacity of one per second.
        throughput.idle();
        assert_eq!(
            throughput.per_second(now + Duration::from_mins(1)),
            None,
            "too old to be believed"
        );
    }
}
