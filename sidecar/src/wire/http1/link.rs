//! What a connection's socket side and its calls tell each other.
//!
//! hyper stands between the two and passes none of it on: that a call is under way (then an end of stream from the
//! application may be a half-close), that the connection has become a tunnel (then its bytes are nobody's to judge), and
//! interim responses, which hyper's server cannot send.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker, ready};

use crate::http::trailers::Section;

/// Shared by one connection's [guard](super::guard) and its calls.
#[derive(Debug, Default)]
pub(super) struct Link {
    phase: AtomicU8,
    /// Calls that have begun.
    calls: AtomicU32,
    /// A message has begun to come in and not ended, or nothing more comes in.
    stirs: AtomicBool,
    /// The application does not take what is written.
    blocked: AtomicBool,
    /// A part of a response was handed out, and is not written yet.
    unwritten: AtomicBool,
    /// The response's next part waits until it is.
    held_back: AtomicBool,
    refused: AtomicBool,
    /// A response's trailers.
    pub(super) trailers: Section,
    /// A response broke off whose end only the connection's tells.
    torn: AtomicBool,
    /// Interim response heads wait to be written.
    has_interim: AtomicBool,
    interim: Mutex<Vec<u8>>,
    /// Who waits for the phase to change, or for the interim heads to be written.
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
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls have begun; wraps.
    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether all that came in was whole messages.
    pub(super) fn set_between_messages(&self, is_between: bool) {
        self.stirs.store(!is_between, Ordering::Relaxed);
    }

    /// Whether the application does not take what is written.
    pub(super) fn set_blocked(&self, is_blocked: bool) {
        self.blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// A part of a response is handed out.
    pub(super) fn hand_out(&self) {
        self.unwritten.store(true, Ordering::Relaxed);
    }

    /// Whether a part of a response was handed out and is not written yet.
    pub(super) fn has_unwritten(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Wakes `waker` when all that was handed out is written.
    pub(super) fn wait_until_written(&self, waker: &Waker) {
        self.wait(waker);
        self.held_back.store(true, Ordering::Relaxed);
    }

    /// All that was handed out is written.
    pub(super) fn written(&self) {
        if self.has_unwritten() {
            self.unwritten.store(false, Ordering::Relaxed);
            if self.held_back.load(Ordering::Relaxed) {
                self.held_back.store(false, Ordering::Relaxed);
                self.wake();
            }
        }
    }

    /// Whether nothing is under way in either direction.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase() == Phase::Idle
            && !self.stirs.load(Ordering::Relaxed)
            && !self.blocked.load(Ordering::Relaxed)
            && !self.has_interim()
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

    /// A response broke off, and an ordinary close would make it look whole.
    pub(super) fn tear(&self) {
        self.torn.store(true, Ordering::Relaxed);
    }

    /// Whether the connection has to end with a reset.
    pub(super) fn is_torn(&self) -> bool {
        self.torn.load(Ordering::Relaxed)
    }

    /// Adds an interim response head to those that the guard writes when hyper has nothing to write.
    pub(super) fn add_interim(&self, head: &[u8]) {
        self.interim().extend_from_slice(head);
        self.has_interim.store(true, Ordering::Relaxed);
    }

    /// Whether interim heads wait to be written.
    pub(super) fn has_interim(&self) -> bool {
        self.has_interim.load(Ordering::Relaxed)
    }

    /// Writes interim heads by `write`, which answers how many bytes it took.
    pub(super) fn poll_interim(
        &self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let mut interim = self.interim();
        while !interim.is_empty() {
            let written = ready!(write(&interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let written = written.min(interim.len());
            interim.drain(..written);
        }
        *interim = Vec::new();
        self.has_interim.store(false, Ordering::Relaxed);
        self.wake();
        Poll::Ready(Ok(()))
    }

    fn interim(&self) -> MutexGuard<'_, Vec<u8>> {
        self.interim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes `waker` when the phase changes, or the interim heads are written.
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
