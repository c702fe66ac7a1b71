//! What a scrape and the live page ask of the running proxy: state that is read when somebody looks, not pushed.
//!
//! `app.rs` implements [`Facts`] from the destinations; metrics and the live page are made from the same answer, so they
//! cannot disagree.

use std::sync::Arc;
use std::time::Duration;

use super::metrics::DestinationMetrics;

/// The running proxy, as far as it can be looked at. Called from the admin thread: never from a worker.
pub trait Facts: Send + Sync + 'static {
    /// Every destination, scoped ones apart from shared ones.
    fn destinations(&self) -> Vec<DestinationFacts>;

    /// The policy that calls obey now.
    fn policy_revision(&self) -> u64;
}

/// One destination at one moment.
#[derive(Debug, Clone)]
pub struct DestinationFacts {
    /// Its name, `host:port`.
    pub name: Arc<str>,
    /// The route that has its own admission and budget here; none for what all other routes share.
    pub scope: Option<Arc<str>>,
    /// How it is, in one word.
    pub state: State,
    /// Most attempts in flight.
    pub limit: u64,
    /// Attempts that hold a permit.
    pub in_flight: u64,
    /// Attempts that wait for one.
    pub queue_length: u64,
    /// How long the oldest of them has waited.
    pub queue_oldest: Option<Duration>,
    /// Retries that the budget would allow.
    pub budget: f64,
    /// Endpoints that the breaker leaves alone.
    pub endpoints_ejected: u64,
    /// What was counted for it.
    pub metrics: Arc<DestinationMetrics>,
}

/// How a destination is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls pass without waiting.
    Healthy,
    /// Calls wait, and are answered in time.
    Queueing,
    /// Calls are refused.
    Shedding,
    /// The retry budget is spent.
    Exhausted,
    /// Ejected endpoints are being tried again.
    Probing,
}

impl State {
    /// All of them, for metrics.
    pub const ALL: [Self; 5] = [
        Self::Healthy,
        Self::Queueing,
        Self::Shedding,
        Self::Exhausted,
        Self::Probing,
    ];

    /// The word in metrics and on the live page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Queueing => "queueing",
            Self::Shedding => "shedding",
            Self::Exhausted => "exhausted",
            Self::Probing => "probing",
        }
    }
}

/// A proxy without destinations: what is looked at before the first call, and in tests.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoFacts;

impl Facts for NoFacts {
    fn destinations(&self) -> Vec<DestinationFacts> {
        Vec::new()
    }

    fn policy_revision(&self) -> u64 {
        0
    }
}
