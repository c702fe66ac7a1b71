//! Counts what happens: cheap enough to be asked on every call.
//!
//! The data plane holds [`DestinationMetrics`], [`ConnectionGuard`] and [`WorkerMetrics`] handles that it looked up once;
//! what they do is relaxed additions. Names, helps and labels stand in [`declared`]; [`exposition`] writes the page.

pub mod connections;
pub mod declared;
pub mod destinations;
pub mod exposition;
pub mod labels;
pub mod numbers;
pub mod process;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use connections::{ConnectionGuard, Meter};
pub use destinations::DestinationMetrics;
pub use labels::{AcceptPause, Closed, Detection, Direction, Side, SpanDrop, Speaks};

use connections::{ByteCounts, ConnectionCounts};
use destinations::{DecisionCounts, Destinations};
use numbers::{Counters, Histogram, LATENESS_BUCKETS};

/// Everything that is counted, but for the state that [`Introspect`](control_api::server::Introspect) answers for.
#[derive(Debug, Default)]
pub struct Metrics {
    destinations: Destinations,
    decisions: DecisionCounts,
    active: ConnectionCounts,
    ended: ConnectionCounts,
    bytes: ByteCounts,
    idle: AtomicU64,
    detections: Counters<Detection, 10>,
    accept_pauses: Counters<AcceptPause, 4>,
    bypasses_seen: AtomicU64,
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    spans_exported: AtomicU64,
    spans_dropped: Counters<SpanDrop, 3>,
    log_suppressed: AtomicU64,
}

impl Metrics {
    /// The counts of a destination. Takes a lock: look it up once and keep it.
    #[must_use]
    pub fn destination(&self, name: &str) -> Arc<DestinationMetrics> {
        self.destinations.get(name, Instant::now())
    }

    /// Counts a connection as open until the guard is dropped.
    #[must_use]
    pub fn connection(self: &Arc<Self>, side: Side, speaks: Speaks) -> ConnectionGuard {
        ConnectionGuard::new(self.clone(), side, speaks)
    }

    /// An upstream connection waits for its next call.
    pub fn became_idle(&self) {
        self.idle.fetch_add(1, Relaxed);
    }

    /// So many that waited do so no longer.
    pub fn were_idle(&self, connections: usize) {
        let connections = u64::try_from(connections).unwrap_or_default();
        self.idle.fetch_sub(connections, Relaxed);
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self, side: Side, speaks: Speaks) -> u64 {
        self.active.get((side, speaks))
    }

    /// Upstream connections that wait for their next call.
    #[must_use]
    pub fn idle(&self) -> u64 {
        self.idle.load(Relaxed)
    }

    /// Bytes that went one way on one side.
    #[must_use]
    pub fn bytes_of(&self, side: Side, direction: Direction) -> u64 {
        self.bytes.get((side, direction))
    }

    /// The counts of a worker's event loop. Look them up once.
    ///
    /// Workers beyond the 64th share the last one's.
    #[must_use]
    pub fn worker(&self, number: usize) -> Arc<WorkerMetrics> {
        let number = number.min(WORKERS_MAX - 1);
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        while workers.len() <= number {
            let name = workers.len().to_string();
            workers.push(Arc::new(WorkerMetrics::new(name)));
        }
        workers.get(number).cloned().unwrap_or_default()
    }

    /// Detection ended like this.
    pub fn detected(&self, detection: Detection) {
        self.detections.add_one(detection);
    }

    /// A listener paused.
    pub fn accept_paused(&self, reason: AcceptPause) {
        self.accept_pauses.add_one(reason);
    }

    /// So many connections were seen that bypass weir.
    pub fn bypasses_seen(&self, connections: u64) {
        self.bypasses_seen.fetch_add(connections, Relaxed);
    }

    pub(in crate::telemetry) fn decided(&self, decisions: &[super::record::Decision]) {
        self.decisions.count(decisions);
    }

    pub(in crate::telemetry) fn spans_exported(&self, spans: u64) {
        self.spans_exported.fetch_add(spans, Relaxed);
    }

    pub(in crate::telemetry) fn spans_dropped(&self, reason: SpanDrop, spans: u64) {
        self.spans_dropped.add(reason, spans);
    }

    pub(in crate::telemetry) fn log_suppressed(&self) {
        self.log_suppressed.fetch_add(1, Relaxed);
    }

    /// Log lines that were left out.
    #[must_use]
    pub fn log_suppressed_total(&self) -> u64 {
        self.log_suppressed.load(Relaxed)
    }

    /// Spans that did not reach the collector, by reason.
    #[must_use]
    pub fn spans_dropped_for(&self, reason: SpanDrop) -> u64 {
        self.spans_dropped.get(reason)
    }

    /// Spans that the collector took.
    #[must_use]
    pub fn spans_exported_total(&self) -> u64 {
        self.spans_exported.load(Relaxed)
    }

    /// Every worker that was looked up.
    #[must_use]
    pub fn workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Most workers that are told apart.
const WORKERS_MAX: usize = 64;

/// How one worker's event loop does.
#[derive(Debug)]
pub struct WorkerMetrics {
    name: String,
    lateness: Histogram<10>,
    busy_nanos: AtomicU64,
    /// Milliseconds after `born`, and one more; 0 while the worker is not watched.
    ran_at: AtomicU64,
    born: Instant,
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self::new("0".to_owned())
    }
}

impl WorkerMetrics {
    fn new(name: String) -> Self {
        Self {
            name,
            lateness: Histogram::new(&LATENESS_BUCKETS),
            busy_nanos: AtomicU64::new(0),
            ran_at: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    /// A timer fired this much later than asked.
    pub fn late_by(&self, lateness: Duration) {
        self.lateness.observe(lateness);
    }

    /// The event loop has been busy for this long since it started.
    pub fn set_busy(&self, busy: Duration) {
        let nanos = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        self.busy_nanos.store(nanos, Relaxed);
    }

    /// The event loop ran at this time.
    pub fn ran_at(&self, now: Instant) {
        self.ran_at.store(self.millis(now) + 1, Relaxed);
    }

    /// The worker is over: it does not run, and is not stuck.
    pub fn ended(&self) {
        self.ran_at.store(0, Relaxed);
    }

    /// For how long the event loop has not run. None: it is not watched.
    #[must_use]
    pub fn stalled_for(&self, now: Instant) -> Option<Duration> {
        let ran_at = self.ran_at.load(Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(
            self.millis(now).saturating_sub(ran_at),
        ))
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.born).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX - 1)
    }

    /// How long it has been busy since it started.
    #[must_use]
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_nanos.load(Relaxed))
    }

    /// The distribution of its lateness.
    #[must_use]
    pub fn lateness(&self) -> numbers::Distribution {
        self.lateness.read()
    }

    /// Its number, as scraped.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}
