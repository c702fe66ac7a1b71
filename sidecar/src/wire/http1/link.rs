//! What a connection's socket side and its calls tell each other.
//!
//! hyper stands between the two and passes neither on: that a call is under way (then an end of stream from the
//! application may be a half-close), and that the connection has become a tunnel (then its bytes are nobody's to judge).

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// Shared by one connection's [guard](super::guard) and its calls.
#[derive(Debug, Default)]
pub(super) struct Link {
    phase: AtomicU8,
    refused: AtomicBool,
    /// The guard, when it waits for the phase to change.
    waiting: Mutex<Option<Waker>>,
}

/// What the connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No call.
    Idle,
    /// A request was taken, and its response has not ended.
    Calling,
    /// The connection is a tunnel.
    Tunnel,
}

impl Link {
    /// What the connection is at.
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Calling,
            _ => Phase::Tunnel,
        }
    }

    /// A request was taken.
    pub(super) fn begin(&self) {
        // Idle => Calling
        self.phase.store(1, Ordering::Relaxed);
    }

    /// Its response has ended.
    pub(super) fn end(&self) {
        // Calling => Idle; a tunnel stays one.
        let was = self
            .phase
            .compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed);
        if was.is_ok() {
            self.wake();
        }
    }

    /// The response makes the connection a tunnel.
    pub(super) fn become_tunnel(&self) {
        // Calling => Tunnel
        self.phase.store(2, Ordering::Relaxed);
        self.wake();
    }

    /// The guard has refused the connection's bytes, and counted why.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether the guard has refused the connection's bytes.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Wakes `waker` when the phase changes.
    pub(super) fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(known) => known.clone_from(waker),
            None => *waiting = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}
