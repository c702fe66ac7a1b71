//! An address's open connections, and which of them the next call gets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Granted;

#[derive(Default)]
pub(super) struct State {
    /// Those that take calls. A connection that went away, but still has streams, is only in `drivers`.
    pub(super) open: Vec<Open>,
    pub(super) opening: usize,
    pub(super) last_id: u64,
    pub(super) waiting: VecDeque<oneshot::Sender<Granted>>,
    /// One task a connection, from its first packet to its last.
    pub(super) drivers: JoinSet<()>,
    /// No further connection is opened before this, while others are open.
    pub(super) opens_again_at: Option<Instant>,
    pub(super) is_closed: bool,
}

/// A connection that takes calls.
pub(super) struct Open {
    pub(super) id: u64,
    pub(super) sender: SendRequest<Bytes>,
    pub(super) in_use: usize,
    pub(super) places: usize,
    /// How many streams it has carried.
    pub(super) uses: u64,
    /// How often its peer was heard.
    pub(super) heard: Arc<AtomicU64>,
    /// `heard` when a call was last given up in silence: as long as it stays so, the peer may be dead.
    pub(super) silent_at: Option<u64>,
}

impl State {
    /// The connection with the fewest streams, of those that have room. Silent ones only where there are many of them:
    /// then it is not the path of one connection that is broken.
    pub(super) fn roomiest(&self) -> Option<usize> {
        let silent_too = self.open.len() >= CONNECTIONS_FEW;
        self.open
            .iter()
            .enumerate()
            .filter(|(_, open)| open.in_use < open.places && (silent_too || !open.is_silent()))
            .min_by_key(|(_, open)| (open.is_silent(), open.in_use))
            .map(|(index, _)| index)
    }

    pub(super) fn index_of(&self, id: u64) -> Option<usize> {
        self.open.iter().position(|open| open.id == id)
    }

    pub(super) fn forget(&mut self, id: u64) {
        if let Some(index) = self.index_of(id) {
            self.open.swap_remove(index);
        }
    }
}

impl Open {
    pub(super) fn is_silent(&self) -> bool {
        self.silent_at
            .is_some_and(|heard| heard == self.heard.load(Ordering::Relaxed))
    }
}

/// Up to this many connections are opened before the others are full.
pub(super) const CONNECTIONS_FEW: usize = 4;
