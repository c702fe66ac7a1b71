//! Wakers to be called once a lock is let go.

use std::task::Waker;

/// Wakers to be called once the lock is let go; a fixed number, so that nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct Woken {
    wakers: [Option<Waker>; WOKEN_MAX],
    len: usize,
}

impl Woken {
    pub(super) fn is_full(&self) -> bool {
        self.len >= WOKEN_MAX
    }

    /// Not when it is full.
    pub(super) fn push(&mut self, waker: Waker) {
        if let Some(place) = self.wakers.get_mut(self.len) {
            *place = Some(waker);
            self.len += 1;
        }
    }

    pub(super) fn wake(&mut self) {
        for place in self.wakers.iter_mut().take(self.len) {
            if let Some(waker) = place.take() {
                waker.wake();
            }
        }
        self.len = 0;
    }
}

const WOKEN_MAX: usize = 16;
