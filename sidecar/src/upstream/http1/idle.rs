//! The connections that wait for their next call.
//!
//! Last in, first out: what is used stays warm, and what is too much runs out its time at the front of the queue.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use crate::telemetry::metrics::Metrics;
use crate::upstream::connect::Settings;

/// Unused connections by address.
#[derive(Debug)]
pub(super) struct Idle {
    max: usize,
    open_max: usize,
    timeout: Duration,
    /// Where they are counted as unused.
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queues: HashMap<SocketAddr, VecDeque<Waiting>, BuildHasherDefault<AddrHasher>>,
    /// Connections that are open, unused or not.
    open: usize,
    /// Somebody calls [`Idle::expire`] from time to time.
    expiring: bool,
}

/// Mixes an address's bytes (the multiplier is the golden ratio's, as in Knuth's multiplicative hashing).
///
/// The standard hasher resists keys that an attacker chooses, at some hundred instructions a call; these keys are the
/// application's own destinations.
#[derive(Debug, Default)]
struct AddrHasher(u64);

impl Hasher for AddrHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut()
                .zip(chunk)
                .for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let left = self.lock().queues.values().map(VecDeque::len).sum();
        self.metrics.were_idle(left);
    }
}

#[derive(Debug)]
struct Waiting {
    connection: Arc<Connection>,
    since: Instant,
}

impl Idle {
    /// None yet.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            max: settings.idle_max,
            open_max: settings.open_max,
            timeout: settings.idle_timeout,
            metrics: Arc::clone(&settings.metrics),
            state: Mutex::default(),
        }
    }

    /// How long a connection may wait.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The connection that was used last, if it still is one.
    pub(super) fn take(&self, addr: SocketAddr) -> Option<Arc<Connection>> {
        let mut state = self.lock();
        let queue = state.queues.get_mut(&addr)?;
        let now = Instant::now();
        while let Some(waiting) = queue.pop_back() {
            self.metrics.were_idle(1);
            if !waiting.connection.is_closed() && now - waiting.since < self.timeout {
                return Some(waiting.connection);
            }
            waiting.connection.close();
        }
        None
    }

    /// Keeps a connection for the next call; the oldest of its address makes room.
    pub(super) fn put(&self, connection: Arc<Connection>) {
        let mut state = self.lock();
        if self.max == 0 || state.open > self.open_max {
            connection.close();
            return;
        }
        let queue = state.queues.entry(connection.addr()).or_default();
        if queue.len() >= self.max
            && let Some(oldest) = queue.pop_front()
        {
            self.metrics.were_idle(1);
            oldest.connection.close();
        }
        self.metrics.became_idle();
        queue.push_back(Waiting {
            connection,
            since: Instant::now(),
        });
    }

    /// Counts a new connection; true where the caller has to see to [`Idle::expire`] being called from now on.
    pub(super) fn enter(&self) -> bool {
        let mut state = self.lock();
        state.open += 1;
        !std::mem::replace(&mut state.expiring, true)
    }

    /// Forgets a connection that has ended.
    pub(super) fn leave(&self, connection: &Arc<Connection>) {
        let mut state = self.lock();
        state.open -= 1;
        if let Some(queue) = state.queues.get_mut(&connection.addr()) {
            let before = queue.len();
            queue.retain(|waiting| !Arc::ptr_eq(&waiting.connection, connection));
            self.metrics.were_idle(before - queue.len());
            if queue.is_empty() {
                state.queues.remove(&connection.addr());
            }
        }
    }

    /// Closes what has waited for too long; false where there is nothing left that could.
    pub(super) fn expire(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.queues.retain(|_, queue| {
            while let Some(oldest) = queue.front()
                && now - oldest.since >= self.timeout
            {
                oldest.connection.close();
                queue.pop_front();
                self.metrics.were_idle(1);
            }
            !queue.is_empty()
        });
        state.expiring = state.open > 0;
        state.expiring
    }

    /// Closes all that wait.
    pub(super) fn close_all(&self) {
        let queues = std::mem::take(&mut self.lock().queues);
        for queue in queues.into_values() {
            self.metrics.were_idle(queue.len());
            for waiting in queue {
                waiting.connection.close();
            }
        }
    }

    /// How many wait for calls to `addr`.
    #[cfg(test)]
    pub(super) fn count(&self, addr: SocketAddr) -> usize {
        self.lock().queues.get(&addr).map_or(0, VecDeque::len)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics; a poisoned one still holds whole queues.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
