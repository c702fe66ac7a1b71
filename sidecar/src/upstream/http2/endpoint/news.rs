//! What an address's connections tell of themselves: opened, not opened, another stream limit, unused, ended.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::time::Instant;

use super::state::Open;
use super::{Endpoint, failure, lock};
use crate::error::UpstreamError;

/// What [`Endpoint::retire_unless_used_since`] found.
pub(in super::super) enum Retired {
    Yes,
    No { uses: u64 },
}

impl Endpoint {
    /// A connection is ready for calls.
    pub(in super::super) fn opened(
        &self,
        sender: SendRequest<Bytes>,
        heard: Arc<AtomicU64>,
        streams_max: usize,
    ) -> u64 {
        let mut state = lock(&self.state);
        state.opening = state.opening.saturating_sub(1);
        state.opens_again_at = None;
        state.last_id += 1;
        let id = state.last_id;
        if !state.is_closed {
            state.open.push(Open {
                id,
                sender,
                in_use: 0,
                places: streams_max.min(PLACES_MAX),
                uses: 0,
                heard,
                silent_at: None,
            });
        }
        self.serve_waiting(state);
        id
    }

    /// A connection could not be opened. Those who wait fail with it when there is no other.
    pub(in super::super) fn opening_failed(&self, error: &UpstreamError) {
        let mut state = lock(&self.state);
        state.opening = state.opening.saturating_sub(1);
        state.opens_again_at = Some(Instant::now() + OPENING_BACKOFF);
        if !state.open.is_empty() || state.opening > 0 {
            return;
        }
        for waiting in std::mem::take(&mut state.waiting) {
            let _one_that_left_needs_no_answer =
                waiting.send(Err(failure::again(self.addr, error)));
        }
    }

    /// The peer changed how many streams it takes.
    pub(in super::super) fn streams_max_changed(&self, id: u64, streams_max: usize) {
        let mut state = lock(&self.state);
        if let Some(index) = state.index_of(id)
            && let Some(open) = state.open.get_mut(index)
        {
            open.places = streams_max.min(PLACES_MAX);
        }
        self.serve_waiting(state);
    }

    /// A connection has ended.
    pub(in super::super) fn ended(&self, id: u64) {
        let mut state = lock(&self.state);
        state.forget(id);
        self.serve_waiting(state);
    }

    /// Forgets a connection that carries no stream and has carried none since it had carried `uses`.
    pub(in super::super) fn retire_unless_used_since(&self, id: u64, uses: u64) -> Retired {
        let mut state = lock(&self.state);
        match state.index_of(id).and_then(|index| state.open.get(index)) {
            Some(open) if open.in_use > 0 || open.uses != uses => Retired::No { uses: open.uses },
            Some(_) | None => {
                state.forget(id);
                Retired::Yes
            }
        }
    }
}

/// Most streams on one connection, whatever the peer allows: a lost packet stops no more calls than this.
const PLACES_MAX: usize = 100;

/// Pause after a further connection failed, while others are open.
const OPENING_BACKOFF: Duration = Duration::from_secs(1);
