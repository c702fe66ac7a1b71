//! Remembers how long a destination's answers took lately: a lock-free histogram over the last ten to twenty seconds.
//!
//! Two windows of ten seconds take turns; quantiles are read over both. A bucket is at most 1/16 of its value wide, so
//! a quantile is off by 3 % at most. A record is one atomic addition; a destination's sketch is 3 KiB.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Latencies of one destination.
#[derive(Debug)]
pub struct Sketch {
    since: Instant,
    // Number of the window that is being written, counted from `since`.
    current: AtomicU32,
    even: Window,
    odd: Window,
}

#[derive(Debug)]
struct Window {
    buckets: [AtomicU32; BUCKETS],
    censored: AtomicU32,
}

/// What a sketch holds, read at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Answers.
    pub count: u32,
    /// Attempts that were given up before they were answered: how long they would have taken is not known.
    pub censored: u32,
    /// Half of the answers took no longer. None without answers, as for all that follow.
    pub p50: Option<Duration>,
    /// 95 % took no longer.
    pub p95: Option<Duration>,
    /// 99 % took no longer.
    pub p99: Option<Duration>,
    /// 99.9 % took no longer.
    pub p999: Option<Duration>,
    /// The mean.
    pub mean: Option<Duration>,
    /// The standard deviation.
    pub deviation: Option<Duration>,
}

impl Sketch {
    /// An empty sketch.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            current: AtomicU32::new(0),
            even: Window::new(),
            odd: Window::new(),
        }
    }

    /// An attempt was answered after `rtt`, from its dispatch to its response head.
    pub fn record(&self, rtt: Duration, now: Instant) {
        if let Some(bucket) = self.writing(now).buckets.get(index(rtt)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An attempt was given up before it was answered.
    pub fn record_censored(&self, now: Instant) {
        self.writing(now).censored.fetch_add(1, Ordering::Relaxed);
    }

    /// Count, quantiles and moments over both windows. Walks all buckets, about a microsecond: not for every call.
    #[must_use]
    pub fn summary(&self, now: Instant) -> Summary {
        let (new, old) = (self.writing(now), self.resting());
        let mut counts = [0_u32; BUCKETS];
        for ((count, a), b) in counts.iter_mut().zip(&new.buckets).zip(&old.buckets) {
            *count = a
                .load(Ordering::Relaxed)
                .saturating_add(b.load(Ordering::Relaxed));
        }
        let censored = new
            .censored
            .load(Ordering::Relaxed)
            .saturating_add(old.censored.load(Ordering::Relaxed));
        summarise(&counts, censored)
    }

    /// The window of now; the older one's contents are forgotten when a new one begins.
    ///
    /// A record that races with the change may be lost or counted a window too early: one in ten seconds of them.
    fn writing(&self, now: Instant) -> &Window {
        let elapsed = now.saturating_duration_since(self.since).as_secs() / WINDOW.as_secs();
        let number = u32::try_from(elapsed).unwrap_or(u32::MAX);
        let seen = self.current.load(Ordering::Acquire);
        if number > seen
            && self
                .current
                .compare_exchange(seen, number, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            self.window(number).clear();
            if number - seen > 1 {
                self.window(number - 1).clear();
            }
        }
        self.window(number.max(seen))
    }

    fn resting(&self) -> &Window {
        self.window(self.current.load(Ordering::Acquire).wrapping_add(1))
    }

    fn window(&self, number: u32) -> &Window {
        if number.is_multiple_of(2) {
            &self.even
        } else {
            &self.odd
        }
    }
}

impl Window {
    fn new() -> Self {
        Self {
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            censored: AtomicU32::new(0),
        }
    }

    fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
        self.censored.store(0, Ordering::Relaxed);
    }
}

impl Summary {
    /// Enough answers to go by, for decisions that are not about a tail.
    #[must_use]
    pub fn is_meaningful(&self) -> bool {
        self.count >= 10
    }
}

fn summarise(counts: &[u32; BUCKETS], censored: u32) -> Summary {
    let count = counts.iter().fold(0_u32, |sum, n| sum.saturating_add(*n));
    if count == 0 {
        return Summary {
            censored,
            ..Summary::default()
        };
    }
    let (mut sum, mut squares) = (0.0, 0.0);
    for (bucket, n) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        let seconds = middle(bucket).as_secs_f64();
        sum += seconds * f64::from(*n);
        squares += seconds * seconds * f64::from(*n);
    }
    let mean = sum / f64::from(count);
    let variance = (squares / f64::from(count) - mean * mean).max(0.0);
    Summary {
        count,
        censored,
        p50: quantile(counts, count, 500),
        p95: quantile(counts, count, 950),
        p99: quantile(counts, count, 990),
        p999: quantile(counts, count, 999),
        mean: Duration::try_from_secs_f64(mean).ok(),
        deviation: Duration::try_from_secs_f64(variance.sqrt()).ok(),
    }
}

fn quantile(counts: &[u32; BUCKETS], count: u32, per_mille: u64) -> Option<Duration> {
    let rank = (u64::from(count) * per_mille).div_ceil(1000).max(1);
    let mut below = 0;
    let bucket = counts.iter().position(|n| {
        below += u64::from(*n);
        below >= rank
    })?;
    Some(middle(bucket))
}

/// Below 16 µs a bucket a microsecond, then 16 to each power of two; all from 67 s on share the last one.
fn index(rtt: Duration) -> usize {
    let micros = u32::try_from(rtt.as_micros())
        .unwrap_or(u32::MAX)
        .min(MICROS_MAX);
    let bucket = if micros < 16 {
        micros
    } else {
        let exponent = micros.ilog2();
        (exponent - 3) * 16 + ((micros >> (exponent - 4)) & 15)
    };
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

fn middle(bucket: usize) -> Duration {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    if bucket < 16 {
        return Duration::from_micros(bucket);
    }
    let shift = bucket / 16 - 1;
    let low = (16 + bucket % 16) << shift;
    Duration::from_micros(low + (1 << shift) / 2)
}

const WINDOW: Duration = Duration::from_secs(10);
const MICROS_MAX: u32 = (1 << 26) - 1;
const BUCKETS: usize = 368;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sketch_stays_below_four_kilobytes() {
        assert!(size_of::<Sketch>() <= 4096, "{}", size_of::<Sketch>());
    }

    #[test]
    fn the_largest_value_has_the_last_bucket() {
        assert_eq!(index(Duration::MAX), BUCKETS - 1);
        assert_eq!(index(Duration::ZERO), 0);
    }

    proptest! {
        #[test]
        fn a_bucket_is_within_three_percent_of_its_values(micros in 0_u64..(1 << 26)) {
            let value = Duration::from_micros(micros);
            let read = middle(index(value));
            prop_assert!(read.abs_diff(value).as_secs_f64() <= 0.0313 * value.as_secs_f64() + 1e-9);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_last_two_windows() {
        let start = Instant::now();
        let sketch = Sketch::new(start);
        for milliseconds in 1..=1000 {
            sketch.record(Duration::from_millis(milliseconds), start);
        }
        let near = |read: Option<Duration>, milliseconds: f64| {
            let off = read.unwrap().as_secs_f64() * 1e3 / milliseconds - 1.0;
            assert!(off.abs() < 0.04, "{read:?} is not {milliseconds} ms");
        };
        let summary = sketch.summary(start);
        assert_eq!(summary.count, 1000);
        near(summary.p50, 500.0);
        near(summary.p99, 990.0);
        near(summary.mean, 500.5);
        near(summary.deviation, 288.7);

        let next = start + WINDOW;
        sketch.record(Duration::from_millis(7), next);
        sketch.record_censored(next);
        let summary = sketch.summary(next);
        assert_eq!((summary.count, summary.censored), (1001, 1));

        let summary = sketch.summary(next + WINDOW);
        assert_eq!(summary.count, 1, "the first window is forgotten");
        near(summary.p999, 7.0);

        let summary = sketch.summary(next + 10 * WINDOW);
        assert_eq!(summary, Summary::default());
    }

    #[test]
    fn threads_lose_nothing_within_a_window() {
        let now = Instant::now();
        let sketch = Sketch::new(now);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        sketch.record(Duration::from_millis(3), now);
                    }
                });
            }
        });
        assert_eq!(sketch.summary(now).count, 4000);
    }
}
