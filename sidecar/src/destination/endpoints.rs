//! The breakers of a destination's addresses.
//!
//! Only addresses that failed lately have one, and there is a bound on them: beyond it, addresses are let pass. Where the
//! policy has no breaker, asking costs one atomic load.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use control_api::policy;
use tokio::time::Instant;

use super::lock;
use crate::overload::Breaker;
use crate::overload::breaker::{BreakerState, Gate};

/// A destination's breakers.
#[derive(Debug)]
pub struct Endpoints {
    enabled: AtomicBool,
    shared: Mutex<Shared>,
}

/// A call's passage through an endpoint's breaker. To be handed to [`Endpoints::leave`] whatever came of it.
#[derive(Debug)]
pub(super) struct Pass {
    endpoint: SocketAddr,
    // Whether the endpoint's return hangs on this call, and it has not reported yet.
    probes: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    setting: Option<policy::Breaker>,
    breakers: HashMap<SocketAddr, Breaker>,
}

impl Endpoints {
    pub(super) fn new(setting: Option<policy::Breaker>) -> Self {
        Self {
            enabled: AtomicBool::new(setting.is_some()),
            shared: Mutex::new(Shared {
                setting,
                breakers: HashMap::new(),
            }),
        }
    }

    pub(super) fn configure(&self, setting: Option<policy::Breaker>) {
        let mut shared = lock(&self.shared);
        shared.setting = setting;
        if setting.is_none() {
            shared.breakers.clear();
        }
        self.enabled.store(setting.is_some(), Ordering::Relaxed);
    }

    /// Asks for a call to pass. None: there is no breaker to report to.
    ///
    /// # Errors
    /// How long the endpoint is still left alone.
    pub(super) fn gate(&self, endpoint: SocketAddr) -> Result<Option<Pass>, Duration> {
        if !self.enabled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut shared = lock(&self.shared);
        let Some(setting) = shared.setting else {
            return Ok(None);
        };
        let gate = match shared.breakers.get_mut(&endpoint) {
            Some(breaker) => breaker.gate(setting, Instant::now()),
            None => Gate::Pass,
        };
        let pass = |probes| Pass {
            endpoint,
            probes: AtomicBool::new(probes),
        };
        match gate {
            Gate::Pass => Ok(Some(pass(false))),
            Gate::Probe => Ok(Some(pass(true))),
            Gate::Ejected(left) => Err(left),
        }
    }

    /// Tells what a call came to. Answers the length of the ejection if that ejected the endpoint.
    pub(super) fn report(&self, pass: &Pass, failed: bool, now: Instant) -> Option<Duration> {
        let probed = pass.probes.swap(false, Ordering::Relaxed);
        let mut shared = lock(&self.shared);
        let setting = shared.setting?;
        if failed && shared.breakers.len() >= ENDPOINTS_MAX {
            // Addresses come and go: those that keep nobody away make room.
            shared
                .breakers
                .retain(|_, breaker| breaker.state(now) != BreakerState::Closed);
        }
        let room = shared.breakers.len() < ENDPOINTS_MAX;
        let breaker = match shared.breakers.get_mut(&pass.endpoint) {
            // What was sent before the ejection is not what the probe is asked for.
            Some(breaker) if !probed && !breaker.is_closed() => return None,
            Some(_) => shared.breakers.get_mut(&pass.endpoint)?,
            None if failed && room => shared.breakers.entry(pass.endpoint).or_default(),
            None => return None,
        };
        if failed {
            return breaker.failed(setting, now);
        }
        breaker.succeeded();
        shared.breakers.remove(&pass.endpoint);
        None
    }

    /// A call is over. A probe that did not report lets the next call probe.
    pub(super) fn leave(&self, pass: &Pass) {
        if pass.probes.swap(false, Ordering::Relaxed)
            && let Some(breaker) = lock(&self.shared).breakers.get_mut(&pass.endpoint)
        {
            breaker.abandoned(Instant::now());
        }
    }

    /// The endpoints that are left alone, or probed.
    #[must_use]
    pub fn troubled(&self, now: Instant) -> Vec<(SocketAddr, BreakerState)> {
        lock(&self.shared)
            .breakers
            .iter()
            .map(|(endpoint, breaker)| (*endpoint, breaker.state(now)))
            .filter(|(_, state)| *state != BreakerState::Closed)
            .collect()
    }
}

/// Most addresses of one destination that have a breaker.
const ENDPOINTS_MAX: usize = 256;
