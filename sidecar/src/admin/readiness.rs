//! Whether the proxy takes calls: one word that `app.rs` sets and the kubelet asks for.

use std::sync::{Arc, Mutex, PoisonError};

/// Whether the proxy takes calls. Cheap to clone; starts as not ready.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<State>>);

/// What [`Readiness`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not yet, and what is missing.
    Starting(&'static str),
    /// The listeners are up and a policy is loaded.
    Ready,
    /// The proxy ends: what is in flight is finished.
    Draining,
}

impl State {
    /// The state in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Starting(missing) => missing,
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State::Starting(
            "starting: the listeners are not up yet",
        ))))
    }
}

impl Readiness {
    /// Changes it.
    pub fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
