//! Tells a queue that absorbs a burst from one that stands.
//!
//! A queue is good when its oldest call has waited no longer than the target. It is standing when it has not been good
//! for a whole interval, and good again with the first good moment: emptied, or the oldest call a young one. That is
//! CoDel's criterion (the *minimum* delay of an interval, RFC 8289 §3.2) with the age of the oldest call for the delay:
//! the delay of the call just served says nothing once the newest are served first.

use std::time::Duration;

use tokio::time::Instant;

use super::Pace;

#[derive(Debug)]
pub(super) struct Standing {
    good_at: Instant,
    standing: bool,
}

impl Standing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            good_at: now,
            standing: false,
        }
    }

    pub(super) fn is_standing(&self) -> bool {
        self.standing
    }

    /// Nobody waits.
    pub(super) fn calm(&mut self, now: Instant) {
        // Standing => Good
        self.good_at = now;
        self.standing = false;
    }

    /// The oldest call has waited this long. Without a pace nothing is ever too long.
    pub(super) fn observe(&mut self, oldest_wait: Duration, pace: Option<Pace>, now: Instant) {
        match pace {
            Some(pace) if oldest_wait > pace.target => {
                if now.saturating_duration_since(self.good_at) >= pace.interval {
                    // Good => Standing
                    self.standing = true;
                }
            }
            _ => self.calm(now),
        }
    }
}
