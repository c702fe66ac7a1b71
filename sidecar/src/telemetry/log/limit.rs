//! Thins out kinds of events that come too often.
//!
//! An error that every call of a broken destination makes would otherwise be the loudest thing on the node. A kind is a place
//! in the code, so one flood does not hide another kind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

use super::ACCESS;
use crate::telemetry::metrics::Metrics;

/// Events of one kind that are written at once.
const BURST: u32 = 20;

/// Time for which one more is allowed after a burst.
const REFILL: Duration = Duration::from_millis(500);

/// Lets [`BURST`] events of a kind pass, and then one each [`REFILL`].
///
/// Debug and trace events, and the access log, were asked for by name: they all pass.
#[derive(Debug)]
pub(super) struct Limit {
    /// Bounded by the number of places in the code that log.
    kinds: Mutex<HashMap<Identifier, Tokens>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone, Copy)]
struct Tokens {
    left: u32,
    counted: Instant,
}

impl Limit {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            kinds: Mutex::default(),
            metrics,
        }
    }

    fn takes(&self, kind: Identifier, now: Instant) -> bool {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = kinds.entry(kind).or_insert(Tokens {
            left: BURST,
            counted: now,
        });
        tokens.take(now)
    }
}

impl Tokens {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.counted);
        let refilled = u32::try_from(since.as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        if refilled > 0 {
            self.left = self.left.saturating_add(refilled).min(BURST);
            self.counted += REFILL.saturating_mul(refilled);
        }
        let taken = self.left.checked_sub(1);
        self.left = taken.unwrap_or(0);
        taken.is_some()
    }
}

impl<S: Subscriber> Filter<S> for Limit {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == ACCESS {
            return true;
        }
        let taken = self.takes(metadata.callsite(), Instant::now());
        if !taken {
            self.metrics.log_suppressed();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_two_a_second() {
        let now = Instant::now();
        let mut tokens = Tokens {
            left: BURST,
            counted: now,
        };
        let mut passed = |at: Instant| (0..100).filter(|_| tokens.take(at)).count();
        assert_eq!(passed(now), 20);
        assert_eq!(passed(now + Duration::from_millis(499)), 0);
        assert_eq!(passed(now + Duration::from_secs(1)), 2);
        assert_eq!(passed(now + Duration::from_hours(1)), 20);
    }
}
