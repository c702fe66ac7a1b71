//! Decides who waits for a destination, who is next, and who is refused.
//!
//! - Bounded: a full queue refuses, or displaces a call that matters less.
//! - Higher priorities first; within one, first come first served, but newest first while that priority's part of the
//!   queue is [standing]: under a lasting overload the oldest calls are the ones nobody waits for any longer.
//! - A call that cannot be answered before its deadline is refused at once (Little's law: wait = ahead / rate); one that
//!   no longer can is never handed out. Where nothing is measured yet, everything is let in.
//!
//! A call holds a [`Ticket`] and learns its [`Fate`] by it; giving the ticket back takes O(1) at any time. The queue owns
//! a `T` for each waiting call (a waker, say) and hands it out with the decision about the call.

mod line;
mod pace;
mod slot;
mod standing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use control_api::policy::{self, Priority};
use slab::Slab;
use tokio::time::Instant;

use crate::error::Shed;
use line::{Class, Links};
pub use pace::Estimates;
use pace::{Pace, TARGET_MIN};
use slot::Slot;
pub use slot::{Event, Fate, Pushed, Ticket};

/// A destination's waiting calls.
#[derive(Debug)]
pub struct Queue<T> {
    slots: Slab<Slot<T>>,
    critical: Class,
    normal: Class,
    sheddable: Class,
    setting: policy::Admission,
    estimates: Estimates,
    bounds: Bounds,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bounds {
    length: u32,
    pace: Option<Pace>,
}

impl<T> Queue<T> {
    /// An empty queue before anything is known about its destination.
    #[must_use]
    pub fn new(setting: policy::Admission, now: Instant) -> Self {
        let mut queue = Self {
            slots: Slab::new(),
            critical: Class::new(now),
            normal: Class::new(now),
            sheddable: Class::new(now),
            setting,
            estimates: Estimates::default(),
            bounds: Bounds::default(),
        };
        queue.adapt(Estimates::default(), setting.limit);
        queue
    }

    /// Takes a new setting. Calls that wait already keep their places and times.
    pub fn configure(&mut self, setting: policy::Admission) {
        self.setting = setting;
        self.adapt(self.estimates, setting.limit);
    }

    /// Fits length and pace to the destination's latencies and the present limit.
    pub fn adapt(&mut self, estimates: Estimates, limit: u32) {
        self.estimates = estimates;
        let pace = estimates.pace(self.setting.queue_target);
        self.bounds = Bounds {
            length: match self.setting.queue_length {
                Some(length) => length,
                None => estimates.length(limit, pace),
            },
            pace,
        };
    }

    /// Lets a call wait.
    ///
    /// # Errors
    /// The reason if it is refused: [`Shed::DeadlineUnreachable`] or [`Shed::QueueFull`].
    pub fn push(
        &mut self,
        now: Instant,
        priority: Priority,
        deadline: Option<Instant>,
        waiter: T,
    ) -> Result<Pushed<T>, Shed> {
        self.observe(now);
        if let Some(deadline) = deadline
            && now + self.predicted_wait(priority) + self.estimates.p50.unwrap_or_default()
                >= deadline
        {
            return Err(Shed::DeadlineUnreachable);
        }
        let displaced = if self.len() < self.bounds.length {
            None
        } else {
            Some(self.displace(now, priority).ok_or(Shed::QueueFull)?)
        };
        let (expires, shed) = self.expiry(now, deadline);
        let key = self.slots.insert(Slot {
            waiter: Some(waiter),
            fate: Fate::Waiting(shed),
            priority,
            since: now,
            expires,
            allowed: deadline.map(|deadline| deadline.saturating_duration_since(now)),
            links: Links::default(),
        });
        let (class, slots) = self.class_mut(priority);
        class.append(slots, key, now);
        Ok(Pushed {
            ticket: Ticket(key),
            expires,
            displaced,
        })
    }

    /// Decides about the call whose turn it is. To be asked for as long as there is room, until [`Event::Granted`].
    pub fn next(&mut self, now: Instant) -> Option<Event<T>> {
        self.observe(now);
        let key = [&self.critical, &self.normal, &self.sheddable]
            .into_iter()
            .find_map(Class::first_out)?;
        let slot = self.slots.get(key)?;
        let fate = match slot.fate {
            Fate::Waiting(shed) if slot.expires <= now => Fate::Refused(shed),
            Fate::Waiting(_) | Fate::Granted | Fate::Refused(_) => Fate::Granted,
        };
        let waiter = self.settle(key, fate, now)?;
        Some(match fate {
            Fate::Refused(shed) => Event::Refused(waiter, shed),
            Fate::Granted | Fate::Waiting(_) => Event::Granted(waiter),
        })
    }

    /// Refuses an old call whose time is over, or which waited too long in a standing queue. To be asked until None.
    pub fn refuse_stale(&mut self, now: Instant) -> Option<(T, Shed)> {
        self.observe(now);
        let pace = self.bounds.pace;
        let (key, shed) = [&self.sheddable, &self.normal, &self.critical]
            .into_iter()
            .find_map(|class| {
                let key = class.oldest()?;
                let slot = self.slots.get(key)?;
                let waited = now.saturating_duration_since(slot.since);
                let patience = pace.map_or(Duration::MAX, |pace| pace.patience(slot.allowed));
                match slot.fate {
                    Fate::Waiting(shed) if slot.expires <= now => Some((key, shed)),
                    Fate::Waiting(_) if class.is_standing() && waited > patience => {
                        Some((key, Shed::QueueStanding))
                    }
                    Fate::Waiting(_) | Fate::Granted | Fate::Refused(_) => None,
                }
            })?;
        let waiter = self.settle(key, Fate::Refused(shed), now)?;
        Some((waiter, shed))
    }

    /// What became of a call.
    #[must_use]
    pub fn fate(&self, ticket: &Ticket) -> Option<Fate> {
        self.slots.get(ticket.0).map(|slot| slot.fate)
    }

    /// What the queue keeps for a call that waits.
    pub fn waiter_mut(&mut self, ticket: &Ticket) -> Option<&mut T> {
        self.slots.get_mut(ticket.0)?.waiter.as_mut()
    }

    /// Gives a place back and says what had become of its call. A granted call's permit is the caller's to give back.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a ticket is good for one return"
    )]
    pub fn remove(&mut self, ticket: Ticket, now: Instant) -> Option<Fate> {
        let key = ticket.0;
        let slot = self.slots.get(key)?;
        if matches!(slot.fate, Fate::Waiting(_)) {
            let (class, slots) = self.class_mut(slot.priority);
            class.unlink(slots, key, now);
        }
        self.slots.try_remove(key).map(|slot| slot.fate)
    }

    /// Calls that wait.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.critical.len() + self.normal.len() + self.sheddable.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most calls that may wait.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.bounds.length
    }

    /// Longest wait that is still a good one.
    #[must_use]
    pub fn target(&self) -> Duration {
        self.bounds.pace.map_or(TARGET_MIN, |pace| pace.target)
    }

    /// How long the oldest waiting call has waited.
    #[must_use]
    pub fn oldest_wait(&self, now: Instant) -> Duration {
        [&self.critical, &self.normal, &self.sheddable]
            .into_iter()
            .filter_map(|class| self.slots.get(class.oldest()?))
            .map(|slot| now.saturating_duration_since(slot.since))
            .max()
            .unwrap_or_default()
    }

    /// Whether calls of some priority have been waiting too long for too long: the destination is overloaded.
    pub fn is_standing(&mut self, now: Instant) -> bool {
        self.observe(now);
        [&self.critical, &self.normal, &self.sheddable]
            .into_iter()
            .any(Class::is_standing)
    }

    /// What the queue goes by.
    #[must_use]
    pub fn estimates(&self) -> Estimates {
        self.estimates
    }

    /// How long a call of this priority would wait, as far as is known.
    #[must_use]
    pub fn predicted_wait(&self, priority: Priority) -> Duration {
        let ahead = match priority {
            Priority::Critical => self.critical.ahead_of_newcomer(),
            Priority::Normal => self.critical.len() + self.normal.ahead_of_newcomer(),
            Priority::Sheddable => {
                self.critical.len() + self.normal.len() + self.sheddable.ahead_of_newcomer()
            }
        };
        let rate = self.estimates.rate.filter(|rate| *rate > 0.0);
        rate.and_then(|rate| Duration::try_from_secs_f64(f64::from(ahead) / rate).ok())
            .unwrap_or_default()
    }

    /// Takes the place of the call that would be served last, if it matters less than a newcomer of `priority`.
    fn displace(&mut self, now: Instant, priority: Priority) -> Option<T> {
        let lower = match priority {
            Priority::Critical => [Some(&self.sheddable), Some(&self.normal)],
            Priority::Normal => [Some(&self.sheddable), None],
            Priority::Sheddable => [None, None],
        };
        let last = lower.into_iter().flatten().find_map(Class::last_out);
        if let Some(key) = last {
            return self.settle(key, Fate::Refused(Shed::Displaced), now);
        }
        // Newest first: the newcomer would be served before those who wait, so the oldest has to go.
        let own = self.class(priority);
        let oldest = own.oldest().filter(|_| own.is_standing())?;
        self.settle(oldest, Fate::Refused(Shed::QueueStanding), now)
    }

    /// Takes a waiting call out of its line and writes down what becomes of it.
    fn settle(&mut self, key: usize, fate: Fate, now: Instant) -> Option<T> {
        let priority = self.slots.get(key)?.priority;
        let (class, slots) = self.class_mut(priority);
        class.unlink(slots, key, now);
        let slot = self.slots.get_mut(key)?;
        slot.fate = fate;
        slot.waiter.take()
    }

    fn observe(&mut self, now: Instant) {
        let pace = self.bounds.pace;
        for class in [&mut self.critical, &mut self.normal, &mut self.sheddable] {
            class.observe(&self.slots, pace, now);
        }
    }

    /// A call is given up at the queue timeout, or when its deadline leaves no time for a median answer.
    fn expiry(&self, now: Instant, deadline: Option<Instant>) -> (Instant, Shed) {
        let timeout = now + self.setting.queue_timeout;
        let answer = self.estimates.p50.unwrap_or_default();
        match deadline.map(|deadline| deadline.checked_sub(answer).unwrap_or(now)) {
            Some(last) if last < timeout => (last, Shed::DeadlineUnreachable),
            _ => (timeout, Shed::QueueTimeout),
        }
    }

    fn class(&self, priority: Priority) -> &Class {
        match priority {
            Priority::Critical => &self.critical,
            Priority::Normal => &self.normal,
            Priority::Sheddable => &self.sheddable,
        }
    }

    fn class_mut(&mut self, priority: Priority) -> (&mut Class, &mut Slab<Slot<T>>) {
        let class = match priority {
            Priority::Critical => &mut self.critical,
            Priority::Normal => &mut self.normal,
            Priority::Sheddable => &mut self.sheddable,
        };
        (class, &mut self.slots)
    }
}
