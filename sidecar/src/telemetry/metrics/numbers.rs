//! Numbers that many threads count up without a lock.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::labels::Closed;

/// One counter for each value of a closed set.
#[derive(Debug)]
pub struct Counters<L, const N: usize> {
    counts: [AtomicU64; N],
    label: PhantomData<fn() -> L>,
}

impl<L: Closed, const N: usize> Default for Counters<L, N> {
    fn default() -> Self {
        const { assert!(N == L::ALL.len(), "one counter for each label value") };
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            label: PhantomData,
        }
    }
}

impl<L: Closed, const N: usize> Counters<L, N> {
    /// Counts one.
    pub fn add_one(&self, label: L) {
        self.add(label, 1);
    }

    /// Counts `amount`.
    pub fn add(&self, label: L, amount: u64) {
        if let Some(count) = self.counts.get(label.place()) {
            count.fetch_add(amount, Relaxed);
        }
    }

    /// Takes one off: for numbers that go up and down.
    pub fn take_one(&self, label: L) {
        if let Some(count) = self.counts.get(label.place()) {
            count.fetch_sub(1, Relaxed);
        }
    }

    /// What has been counted so far.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        self.counts
            .get(label.place())
            .map_or(0, |count| count.load(Relaxed))
    }

    /// All of it.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Every label value with its count.
    pub fn each(&self) -> impl Iterator<Item = (L, u64)> {
        L::ALL.iter().map(|label| (*label, self.get(*label)))
    }
}

/// Upper bounds of a duration's buckets, in microseconds; the last bucket is everything above.
///
/// Steps of 1.3 to 2 from half a millisecond to 30 s: an interpolated percentile is off by at most a quarter in the range
/// where most calls end.
pub const CALL_BUCKETS: [u32; 24] = [
    500, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000, 75_000,
    100_000, 150_000, 200_000, 300_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
    20_000_000, 30_000_000,
];

/// Upper bounds for event-loop lateness, in microseconds. A timer of the runtime is a millisecond coarse.
pub const LATENESS_BUCKETS: [u32; 10] = [
    1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000,
];

/// A histogram of durations: a count for each bucket and a sum, each a relaxed atomic.
///
/// A reader may see a call in its bucket and not yet in the sum. The next scrape sees both.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u32; N],
    counts: [AtomicU64; N],
    above: AtomicU64,
    sum_nanos: AtomicU64,
}

/// What a [`Histogram`] held at one moment.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Upper bound in seconds with the count of its own bucket; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// Sum of all values, in seconds.
    pub sum: f64,
    /// How many values.
    pub count: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: &'static [u32; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            above: AtomicU64::new(0),
            sum_nanos: AtomicU64::new(0),
        }
    }

    /// Counts one value: two relaxed additions.
    pub fn observe(&self, value: Duration) {
        let whole = value.as_secs().saturating_mul(1_000_000_000);
        let nanos = whole.saturating_add(value.subsec_nanos().into());
        // Rounded up: a bound belongs to its bucket, so 500.1 us is above 500 us.
        let micros = u32::try_from(nanos.div_ceil(1000)).unwrap_or(u32::MAX);
        let place = self.bounds.partition_point(|bound| *bound < micros);
        self.counts
            .get(place)
            .unwrap_or(&self.above)
            .fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// What it holds now.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let bounds = self.bounds.iter().map(|bound| f64::from(*bound) / 1e6);
        let counts = self.counts.iter().chain([&self.above]);
        let buckets: Vec<_> = bounds
            .chain([f64::INFINITY])
            .zip(counts.map(|count| count.load(Relaxed)))
            .collect();
        Distribution {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum: Duration::from_nanos(self.sum_nanos.load(Relaxed)).as_secs_f64(),
            buckets,
        }
    }
}

impl Distribution {
    /// What came in since `earlier`, a reading of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.buckets.iter().map(|(_, count)| *count);
        let buckets: Vec<_> = self
            .buckets
            .iter()
            .zip(before.chain(std::iter::repeat(0)))
            .map(|((bound, now), before)| (*bound, now.saturating_sub(before)))
            .collect();
        Self {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum: (self.sum - earlier.sum).max(0.0),
            buckets,
        }
    }

    /// The value, in seconds, that `share` (0 to 1) of all values do not exceed, interpolated within its bucket as
    /// Prometheus' `histogram_quantile` does. None when there are no values.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "counts of calls are far below 2^52"
    )]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = share * self.count as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                if bound.is_infinite() {
                    return Some(lower);
                }
                return Some(lower + (bound - lower) * ((rank - below) / count));
            }
            below += count;
            lower = *bound;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Shed;

    #[test]
    fn a_value_on_a_bound_belongs_to_the_bucket_below_it() {
        let histogram = Histogram::new(&CALL_BUCKETS);
        histogram.observe(Duration::from_micros(500));
        histogram.observe(Duration::from_nanos(500_001));
        histogram.observe(Duration::from_hours(9000));
        let read = histogram.read();
        assert_eq!(read.buckets[0], (0.0005, 1));
        assert_eq!(read.buckets[1], (0.001, 1));
        assert_eq!(read.buckets.last(), Some(&(f64::INFINITY, 1)));
        assert_eq!(read.count, 3);
    }

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let histogram = Histogram::new(&CALL_BUCKETS);
        for millis in 0..100 {
            histogram.observe(Duration::from_millis(millis));
        }
        let read = histogram.read();
        let median = read.quantile(0.5).unwrap();
        assert!((0.045..0.055).contains(&median), "{median}");
        let p99 = read.quantile(0.99).unwrap();
        assert!((0.09..=0.1).contains(&p99), "{p99}");
        assert_eq!(read.since(&read).quantile(0.5), None);
    }

    #[test]
    fn the_difference_of_two_readings_holds_only_what_came_between() {
        let histogram = Histogram::new(&CALL_BUCKETS);
        histogram.observe(Duration::from_secs(4));
        let earlier = histogram.read();
        histogram.observe(Duration::from_millis(1));
        let between = histogram.read().since(&earlier);
        assert_eq!(between.count, 1);
        assert!(between.quantile(0.99).unwrap() <= 0.001);
    }

    #[test]
    fn counters_keep_each_label_apart() {
        let counters = Counters::<Shed, 7>::default();
        counters.add_one(Shed::QueueFull);
        counters.add(Shed::Ejected, 2);
        counters.take_one(Shed::Ejected);
        assert_eq!(counters.get(Shed::QueueFull), 1);
        assert_eq!(counters.get(Shed::Ejected), 1);
        assert_eq!(counters.get(Shed::Displaced), 0);
        assert_eq!(counters.sum(), 2);
    }
}
