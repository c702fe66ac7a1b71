//! When the next call starts: by a thread that sleeps, since tokio's timer has a grain of a millisecond.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Arrivals;

/// Starts, one after the other.
pub(crate) struct Pace {
    starts: mpsc::Receiver<Instant>,
}

impl Pace {
    pub(crate) fn new(rate: f64, arrivals: Arrivals, seed: u64) -> Self {
        let (sender, starts) = mpsc::channel(100_000);
        std::thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut next = Instant::now();
            loop {
                let share = match arrivals {
                    Arrivals::Fixed => 1.0,
                    Arrivals::Poisson => -(1.0 - random.f64()).ln(),
                };
                next += Duration::from_secs_f64(share / rate);
                let left = next.saturating_duration_since(Instant::now());
                // A shorter sleep would last longer than it says.
                if left > Duration::from_micros(60) {
                    std::thread::sleep(left);
                }
                if sender.blocking_send(next).is_err() {
                    return;
                }
            }
        });
        Self { starts }
    }

    /// Waits for the next start, and answers when it was meant to be.
    pub(crate) async fn next(&mut self) -> Instant {
        self.starts
            .recv()
            .await
            .expect("the thread lasts as long as this")
    }
}
