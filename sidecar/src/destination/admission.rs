//! Keeps a destination's calls in flight at or below its limit, and its queue moving.
//!
//! All of it stands behind one lock that is held for tens of nanoseconds: a permit is taken, given back, or handed to
//! the next waiting call in one step, so that none is ever lost between two. Wakers are called after the lock is let go.

mod shared;
mod woken;

use std::mem;
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use control_api::policy::{self, Mode, Priority};
use tokio::time::Instant;

use super::acquire::Asking;
use super::lock;
use crate::error::Shed;
use crate::overload::queue::Fate;
use crate::overload::{Estimates, Load, Sample, Sketch, Ticket};
use shared::Shared;
use woken::Woken;

/// A destination's calls in flight and its queue.
#[derive(Debug)]
pub struct Admission {
    shared: Mutex<Shared>,
}

/// What [`Admission`] answers about itself, read in one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// Attempts in flight.
    pub in_flight: u32,
    /// Most attempts in flight.
    pub limit: u32,
    /// Calls that wait.
    pub waiting: u32,
    /// Most calls that may wait.
    pub length: u32,
    /// How long the oldest of them has waited.
    pub oldest_wait: Duration,
    /// Whether the queue is standing.
    pub is_standing: bool,
    /// What the queue goes by.
    pub estimates: Estimates,
    /// When a call was refused last.
    pub last_shed: Option<Instant>,
}

/// A permit was taken: what the limiter wants to know at its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) in_flight: u32,
    pub(super) waits_before: u64,
}

/// An asking call's first answer.
#[derive(Debug)]
pub(super) enum Asked {
    Granted(Grant),
    /// Granted only because the mode says that decisions are not acted on.
    Passed(Grant, WouldHave),
    /// It waits, until then at most.
    Waits(Ticket, Instant),
    Refused(Shed),
}

/// What `enforce` would have done with a call that `observe` let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WouldHave {
    Waited,
    BeenRefused(Shed),
}

/// A waiting call's latest answer.
#[derive(Debug)]
pub(super) enum Waited {
    Granted(Grant),
    StillWaits,
    Refused(Shed),
}

impl Admission {
    pub(super) fn new(setting: policy::Admission, revision: u64, now: Instant) -> Self {
        Self {
            shared: Mutex::new(Shared::new(setting, revision, now)),
        }
    }

    /// Attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        lock(&self.shared).in_flight
    }

    /// Most attempts in flight.
    #[must_use]
    pub fn limit(&self) -> u32 {
        lock(&self.shared).limiter.limit()
    }

    /// Calls that wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        lock(&self.shared).queue.len()
    }

    /// Whether calls have been waiting too long for too long.
    #[must_use]
    pub fn is_standing(&self, now: Instant) -> bool {
        lock(&self.shared).queue.is_standing(now)
    }

    /// Longest wait for a permit that is still a good one.
    pub(super) fn target(&self) -> Duration {
        lock(&self.shared).queue.target()
    }

    /// Everything about it, read in one moment.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let mut shared = lock(&self.shared);
        Snapshot {
            in_flight: shared.in_flight,
            limit: shared.limiter.limit(),
            waiting: shared.queue.len(),
            length: shared.queue.length(),
            oldest_wait: shared.queue.oldest_wait(now),
            is_standing: shared.queue.is_standing(now),
            estimates: shared.queue.estimates(),
            last_shed: shared.last_shed,
        }
    }

    /// How long a refused call had best stay away.
    pub(super) fn retry_after(&self) -> Duration {
        lock(&self.shared)
            .queue
            .predicted_wait(Priority::Sheddable)
            .clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }

    /// Takes a newer setting; `also` runs under the same lock. A lower limit takes effect as permits are given back.
    pub(super) fn configure(&self, setting: policy::Admission, revision: u64, also: impl FnOnce()) {
        let mut woken = Woken::default();
        let mut shared = lock(&self.shared);
        if shared.revision >= revision {
            return;
        }
        shared.revision = revision;
        shared.limiter.configure(setting.limit);
        shared.queue.configure(setting);
        also();
        shared.hand_out(&mut woken, Instant::now());
        self.wake(shared, woken);
    }

    /// A permit without a wait, if there is one and nobody waits for it.
    pub(super) fn take(&self, asking: &Asking) -> Option<Grant> {
        // The time is read only where there is a deadline: no call is dispatched after it.
        let late = asking.mode == Mode::Enforce
            && asking
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now());
        let mut shared = lock(&self.shared);
        (!late && shared.has_room() && shared.queue.is_empty()).then(|| shared.grant())
    }

    /// A permit, whether there is room or not.
    pub(super) fn pass(&self) -> Grant {
        lock(&self.shared).grant()
    }

    /// A permit, a place in the queue, or a refusal.
    pub(super) fn ask(&self, asking: &Asking, latency: &Sketch, waker: &Waker) -> Asked {
        let now = Instant::now();
        let mut woken = Woken::default();
        let mut shared = lock(&self.shared);
        let asked = match asking.mode {
            Mode::Enforce => {
                shared.adapt(latency, now);
                shared.enforce(asking, waker, &mut woken, now)
            }
            Mode::Observe => shared.observe(),
            Mode::Off => Asked::Granted(shared.grant()),
        };
        shared.refuse_stale(&mut woken, now);
        self.wake(shared, woken);
        asked
    }

    /// What became of a waiting call; if it still waits, `waker` is called when that changes.
    pub(super) fn look(&self, ticket: &mut Option<Ticket>, waker: &Waker) -> Waited {
        let mut shared = lock(&self.shared);
        if let Some(kept) = ticket
            .as_ref()
            .and_then(|ticket| shared.queue.waiter_mut(ticket))
        {
            let outdated = (!kept.will_wake(waker)).then(|| mem::replace(kept, waker.clone()));
            drop(shared);
            // Not under the lock: it may be the last reference to a task that waits here itself.
            drop(outdated);
            return Waited::StillWaits;
        }
        shared.collect(ticket.take(), Instant::now())
    }

    /// A waiting call's time is over, unless it was granted or refused in the same moment.
    pub(super) fn expire(&self, ticket: Option<Ticket>) -> Waited {
        lock(&self.shared).collect(ticket, Instant::now())
    }

    /// A waiting call is gone. A permit that it was just granted goes to the next.
    pub(super) fn abandon(&self, ticket: Ticket) {
        let now = Instant::now();
        let mut woken = Woken::default();
        let mut shared = lock(&self.shared);
        if let Some(Fate::Granted) = shared.queue.remove(ticket, now) {
            shared.in_flight -= 1;
            shared.hand_out(&mut woken, now);
        }
        self.wake(shared, woken);
    }

    /// Gives a permit back, and wakes who gets it.
    pub(super) fn give_back(&self) {
        let mut shared = lock(&self.shared);
        shared.in_flight -= 1;
        if shared.queue.is_empty() {
            return;
        }
        let (now, mut woken) = (Instant::now(), Woken::default());
        shared.throughput.completed(now);
        shared.hand_out(&mut woken, now);
        self.wake(shared, woken);
    }

    /// Tells the limiter how an attempt ended.
    pub(super) fn record(&self, sample: &Sample, grant: Grant, now: Instant) {
        let mut shared = lock(&self.shared);
        let load = Load {
            in_flight: grant.in_flight,
            waited_behind: !shared.queue.is_empty() || shared.waits > grant.waits_before,
        };
        shared.limiter.record(sample, load, now);
        if shared.queue.is_empty() {
            return;
        }
        let mut woken = Woken::default();
        shared.hand_out(&mut woken, now);
        self.wake(shared, woken);
    }

    /// Wakes what was decided, after the lock is let go; and goes on if there was more than fits.
    fn wake(&self, shared: MutexGuard<'_, Shared>, mut woken: Woken) {
        let mut shared = Some(shared);
        loop {
            let full = woken.is_full();
            drop(shared.take());
            woken.wake();
            if !full {
                return;
            }
            let mut again = lock(&self.shared);
            again.hand_out(&mut woken, Instant::now());
            shared = Some(again);
        }
    }
}

const RETRY_AFTER_MIN: Duration = Duration::from_millis(50);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
