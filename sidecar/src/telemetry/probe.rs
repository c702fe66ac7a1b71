//! Watches a worker's event loop from inside.
//!
//! A timer that fires late says how long everything else on that thread waited: a blocking call or too much work shows here
//! before it shows in any call's latency. The busy share is tokio's: time spent in spawned tasks. Ten looks a second cost nothing that can be measured, and a stall of half a second
//! is seen by its full length, because lateness is measured against the time that was asked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, MissedTickBehavior};

use super::metrics::WorkerMetrics;

/// Time between two looks.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Watches the current thread's runtime for as long as it runs. To be spawned once on each worker.
pub async fn watch(worker: Arc<WorkerMetrics>) {
    let alive = Alive(worker);
    let runtime = Handle::current().metrics();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = ticks.tick().await;
        let now = Instant::now();
        alive.0.late_by(now.saturating_duration_since(asked));
        // Index 0 is the only worker of a current-thread runtime.
        alive.0.set_busy(runtime.worker_total_busy_duration(0));
        alive.0.ran_at(now);
    }
}

/// A worker that has ended is not a worker that is stuck.
struct Alive(Arc<WorkerMetrics>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn a_blocked_event_loop_is_seen_with_the_length_of_its_stall() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let worker = Metrics::default().worker(0);
        runtime.block_on(async {
            let watched = tokio::spawn(watch(worker.clone()));
            tokio::time::sleep(PERIOD).await;
            let stall = async { std::thread::sleep(Duration::from_millis(400)) };
            tokio::spawn(stall).await.unwrap();
            tokio::time::sleep(2 * PERIOD).await;
            assert!(worker.stalled_for(Instant::now()).is_some());
            watched.abort();
            drop(watched.await);
            assert_eq!(worker.stalled_for(Instant::now()), None);
        });
        let late: u64 = worker
            .lateness()
            .buckets
            .iter()
            .filter(|(bound, _)| *bound > 0.1)
            .map(|(_, count)| count)
            .sum();
        assert_eq!(late, 1);
        assert!(
            worker.busy() >= Duration::from_millis(300),
            "{:?}",
            worker.busy()
        );
    }
}
