//! Tells a queue that absorbs a burst from one that stands.
//!
//! A queue is good when its oldest call has waited no longer than the target. It is standing when it has not been good
//! for a whole interval, and good again with the first good moment: emptied, or the oldest call a young one. That is
//! `CoDel`'s criterion (the *minimum* delay of an interval, RFC 8289 §3.2) with the age of the oldest call for the delay:
//! the delay of the call just served says nothing once the newest are served first.

use tokio::time::Instant;

use super::pace::Pace;

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

    /// Whether the oldest call's wait is still a good one. Without a pace it always is.
    pub(super) fn observe(&mut self, is_good: bool, pace: Option<Pace>, now: Instant) {
        match pace {
            Some(pace) if !is_good => {
                // Good => Standing
                self.standing |= now.saturating_duration_since(self.good_at) >= pace.interval;
            }
            Some(_) | None => self.calm(now),
        }
    }
}
