//! What weir knows about each destination: its admission, retry budget, latency, endpoints and counters.
//!
//! The pure cores of [`overload`](crate::overload) decide; this room keeps one of each per destination, tells them the
//! time, and wakes who waits. It is all that workers share on a call's way: a short lock or an atomic at a time, never
//! across an await.

mod acquire;
mod admission;
mod counters;
mod endpoints;
mod permit;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use control_api::policy::{Mode, Priority, Rule};
use control_api::view::Timestamp;
use tokio::time::Instant;

use crate::error::UpstreamError;
use crate::memory::Memory;
use crate::overload::timeout::{AdaptiveTimeout, DestinationLoad};
use crate::overload::{Budget, Sketch};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::DestinationMetrics;
use acquire::Asking;
use table::Key;

pub use acquire::{Acquire, Inputs, Refusal};
pub use admission::{Admission, Snapshot};
pub use control_api::view::DestinationState;
pub use counters::Counters;
pub use endpoints::Endpoints;
pub use permit::Permit;
pub use table::{Destinations, OTHER};

/// One destination.
#[derive(Debug)]
pub struct Destination {
    /// `host:port`, with `/scope` when a route has its own state.
    pub name: Arc<str>,
    /// Who may be in flight, and who waits.
    pub admission: Admission,
    /// How many retries are left.
    pub budget: Budget,
    /// What [`budget`](Self::budget) would hold if calls in observe mode were enforced: they pay into this one and would
    /// spend this one, so that those that are enforced never feel them.
    pub observed_budget: Budget,
    /// How long answers took lately.
    pub latency: Sketch,
    /// Which addresses are left alone.
    pub endpoints: Endpoints,
    /// What happened, for metrics.
    pub counters: Counters,
    host: Box<str>,
    port: u16,
    scope: Option<Arc<str>>,
    metrics: OnceLock<Arc<DestinationMetrics>>,
    memory: Arc<Memory>,
    timeout: Mutex<Timeout>,
    last_error: Mutex<Option<LastError>>,
    revision: AtomicU64,
    // When the table last gave it out, on the table's own clock.
    used: AtomicU64,
}

/// The last attempt that brought no response, for people.
#[derive(Debug, Clone)]
struct LastError {
    text: String,
    at: Timestamp,
}

#[derive(Debug, Default)]
struct Timeout {
    adaptive: AdaptiveTimeout,
    updated: Option<Instant>,
}

impl Destination {
    /// A destination that obeys `rule`, of which nothing is known yet.
    fn new(key: Key<'_>, rule: &Rule, revision: u64, memory: &Arc<Memory>, now: Instant) -> Self {
        Self {
            name: name(key).into(),
            host: key.host.into(),
            port: key.port,
            scope: key.scope.map(Arc::from),
            metrics: OnceLock::new(),
            memory: Arc::clone(memory),
            admission: Admission::new(rule.admission, revision, now),
            budget: Budget::new(rule.retry.budget, now),
            observed_budget: Budget::new(rule.retry.budget, now),
            latency: Sketch::new(now),
            endpoints: Endpoints::new(rule.breaker),
            counters: Counters::default(),
            timeout: Mutex::default(),
            last_error: Mutex::default(),
            revision: AtomicU64::new(revision),
            used: AtomicU64::new(0),
        }
    }

    /// Asks for a permit for one attempt to `endpoint`. It is taken, or waited for, once the answer is polled.
    ///
    /// Only [`Mode::Enforce`] waits and refuses; calls of the other modes are counted in flight and let through. While
    /// memory is short every call is refused, unless it [goes on](Acquire::going_on).
    pub fn acquire(
        self: &Arc<Self>,
        endpoint: SocketAddr,
        priority: Priority,
        deadline: Option<Instant>,
        mode: Mode,
    ) -> Acquire {
        let asking = Asking {
            endpoint,
            priority,
            deadline,
            mode,
        };
        Acquire::new(Arc::clone(self), asking)
    }

    /// Where its calls are counted.
    #[must_use]
    pub fn metrics(&self, telemetry: &Telemetry) -> &Arc<DestinationMetrics> {
        self.metrics
            .get_or_init(|| telemetry.metrics().destination(&self.name))
    }

    /// The memory that its calls take part of.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether calls have been waiting too long for too long. Retries are then off.
    #[must_use]
    pub fn is_overloaded(&self, now: Instant) -> bool {
        self.admission.is_standing(now)
    }

    /// The attempt timeout that the destination's own latencies suggest. None: too little is known.
    #[must_use]
    pub fn adaptive_timeout(&self, now: Instant) -> Option<Duration> {
        let mut timeout = lock(&self.timeout);
        let fresh = timeout
            .updated
            .is_some_and(|at| now.saturating_duration_since(at) < TIMEOUT_UPDATE);
        if !fresh {
            timeout.updated = Some(now);
            let load = if self.is_overloaded(now) {
                DestinationLoad::Overloaded
            } else {
                DestinationLoad::Normal
            };
            timeout
                .adaptive
                .update(&self.latency.summary(now), load, now);
        }
        timeout.adaptive.current()
    }

    /// The median time from dispatch to response head, lately. None: too little is known.
    #[must_use]
    pub fn typical_latency(&self, now: Instant) -> Option<Duration> {
        let summary = self.latency.summary(now);
        summary.p50.filter(|_| summary.is_meaningful())
    }

    /// Remembers why an attempt brought no response.
    fn failed(&self, error: &UpstreamError) {
        let failure = LastError {
            text: error.to_string(),
            at: Timestamp::now(),
        };
        *lock(&self.last_error) = Some(failure);
    }

    fn key(&self) -> Key<'_> {
        Key {
            host: &self.host,
            port: self.port,
            scope: self.scope.as_deref(),
        }
    }

    /// Takes the settings of a rule, if they are newer than those in force.
    fn configure(&self, rule: &Rule, revision: u64) {
        if self.revision.load(Ordering::Relaxed) >= revision {
            return;
        }
        // The admission's lock is what orders two revisions that arrive together.
        self.admission.configure(rule.admission, revision, || {
            self.revision.store(revision, Ordering::Relaxed);
            self.budget.configure(rule.retry.budget);
            self.observed_budget.configure(rule.retry.budget);
            self.endpoints.configure(rule.breaker);
        });
    }
}

fn name(Key { host, port, scope }: Key<'_>) -> String {
    if port == 0 && host == OTHER {
        return OTHER.to_owned();
    }
    let scope = scope.map(|scope| format!("/{scope}")).unwrap_or_default();
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}{scope}")
    } else {
        format!("{host}:{port}{scope}")
    }
}

/// A panic elsewhere while the lock was held does not make the state wrong: every change under it is complete or is made
/// of steps that each keep the invariants.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const TIMEOUT_UPDATE: Duration = Duration::from_secs(1);
