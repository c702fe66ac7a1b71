//! The waiting calls of one priority: a doubly linked list through the slab's slots, oldest to newest.

use slab::Slab;
use tokio::time::Instant;

use super::Slot;
use super::pace::Pace;
use super::standing::Standing;

/// A slot's neighbours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Links {
    older: Option<usize>,
    newer: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Class {
    oldest: Option<usize>,
    newest: Option<usize>,
    len: u32,
    standing: Standing,
}

impl Class {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            oldest: None,
            newest: None,
            len: 0,
            standing: Standing::new(now),
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn oldest(&self) -> Option<usize> {
        self.oldest
    }

    pub(super) fn is_standing(&self) -> bool {
        self.standing.is_standing()
    }

    /// Who is served next.
    pub(super) fn first_out(&self) -> Option<usize> {
        if self.is_standing() {
            self.newest
        } else {
            self.oldest
        }
    }

    /// Who is served after all others.
    pub(super) fn last_out(&self) -> Option<usize> {
        if self.is_standing() {
            self.oldest
        } else {
            self.newest
        }
    }

    /// How many would be served before a call that comes now.
    pub(super) fn ahead_of_newcomer(&self) -> u32 {
        if self.is_standing() { 0 } else { self.len }
    }

    pub(super) fn observe<T>(&mut self, slots: &Slab<Slot<T>>, pace: Option<Pace>, now: Instant) {
        let oldest = self.oldest.and_then(|key| slots.get(key));
        match oldest {
            Some(slot) => {
                let waited = now.saturating_duration_since(slot.since);
                let is_good = pace.is_none_or(|pace| waited <= pace.target(slot.allowed));
                self.standing.observe(is_good, pace, now);
            }
            None => self.standing.calm(now),
        }
    }

    pub(super) fn append<T>(&mut self, slots: &mut Slab<Slot<T>>, key: usize, now: Instant) {
        if self.len == 0 {
            self.standing.calm(now);
        }
        if let Some(slot) = slots.get_mut(key) {
            slot.links = Links {
                older: self.newest,
                newer: None,
            };
        }
        match self.newest.and_then(|newest| slots.get_mut(newest)) {
            Some(before) => before.links.newer = Some(key),
            None => self.oldest = Some(key),
        }
        self.newest = Some(key);
        self.len += 1;
    }

    pub(super) fn unlink<T>(&mut self, slots: &mut Slab<Slot<T>>, key: usize, now: Instant) {
        let Some(slot) = slots.get_mut(key) else {
            return;
        };
        let Links { older, newer } = std::mem::take(&mut slot.links);
        match older.and_then(|older| slots.get_mut(older)) {
            Some(slot) => slot.links.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| slots.get_mut(newer)) {
            Some(slot) => slot.links.older = older,
            None => self.newest = older,
        }
        self.len -= 1;
        if self.len == 0 {
            self.standing.calm(now);
        }
    }
}
