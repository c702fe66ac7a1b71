//! What stands behind an admission's lock: each method is one step that keeps calls in flight at or below the limit.

use std::task::Waker;
use std::time::Duration;

use control_api::policy;
use tokio::time::Instant;

use super::super::acquire::Asking;
use super::woken::Woken;
use super::{Asked, Grant, Waited, WouldHave};
use crate::error::Shed;
use crate::overload::queue::{Event, Fate};
use crate::overload::throughput::Throughput;
use crate::overload::{Estimates, Limiter, Queue, Sketch, Ticket};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limiter: Limiter,
    pub(super) in_flight: u32,
    pub(super) queue: Queue<Waker>,
    pub(super) throughput: Throughput,
    // Calls that ever waited.
    pub(super) waits: u64,
    pub(super) adapted: Option<Instant>,
    pub(super) last_shed: Option<Instant>,
    pub(super) revision: u64,
}

impl Shared {
    pub(super) fn new(setting: policy::Admission, revision: u64, now: Instant) -> Self {
        Self {
            limiter: Limiter::new(setting.limit),
            in_flight: 0,
            queue: Queue::new(setting, now),
            throughput: Throughput::default(),
            waits: 0,
            adapted: None,
            last_shed: None,
            revision,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.limiter.limit()
    }

    pub(super) fn grant(&mut self) -> Grant {
        self.in_flight += 1;
        Grant {
            in_flight: self.in_flight,
            waits_before: self.waits,
        }
    }

    pub(super) fn enforce(
        &mut self,
        asking: &Asking,
        waker: &Waker,
        woken: &mut Woken,
        now: Instant,
    ) -> Asked {
        let Asking {
            priority, deadline, ..
        } = *asking;
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.last_shed = Some(now);
            return Asked::Refused(Shed::DeadlineUnreachable);
        }
        if self.has_room() && self.queue.is_empty() {
            return Asked::Granted(self.grant());
        }
        if self.queue.is_empty() {
            self.throughput.idle();
        }
        match self.queue.push(now, priority, deadline, waker.clone()) {
            Ok(pushed) => {
                self.waits += 1;
                if let Some(waker) = pushed.displaced {
                    self.last_shed = Some(now);
                    woken.push(waker);
                }
                Asked::Waits(pushed.ticket, pushed.expires)
            }
            Err(shed) => {
                self.last_shed = Some(now);
                Asked::Refused(shed)
            }
        }
    }

    pub(super) fn observe(&mut self) -> Asked {
        let beyond = self.in_flight.checked_sub(self.limiter.limit());
        let length = self.queue.length();
        let grant = self.grant();
        match beyond {
            None => Asked::Granted(grant),
            Some(waiting) if waiting < length => Asked::Passed(grant, WouldHave::Waited),
            Some(_) => Asked::Passed(grant, WouldHave::BeenRefused(Shed::QueueFull)),
        }
    }

    /// Takes a settled call's place out of the queue, or that of one whose time is over.
    pub(super) fn collect(&mut self, ticket: Option<Ticket>, now: Instant) -> Waited {
        match ticket.and_then(|ticket| self.queue.remove(ticket, now)) {
            Some(Fate::Granted) => Waited::Granted(Grant {
                in_flight: self.in_flight,
                waits_before: self.waits,
            }),
            Some(Fate::Waiting(shed) | Fate::Refused(shed)) => {
                self.last_shed = Some(now);
                Waited::Refused(shed)
            }
            // Not reached: a call holds its ticket until it is collected, once.
            None => Waited::Refused(Shed::QueueTimeout),
        }
    }

    /// Hands free permits to waiting calls.
    pub(super) fn hand_out(&mut self, woken: &mut Woken, now: Instant) {
        while self.has_room() && !woken.is_full() {
            match self.queue.next(now) {
                Some(Event::Granted(waker)) => {
                    self.in_flight += 1;
                    woken.push(waker);
                }
                Some(Event::Refused(waker, _)) => woken.push(waker),
                None => break,
            }
        }
        self.refuse_stale(woken, now);
    }

    pub(super) fn refuse_stale(&mut self, woken: &mut Woken, now: Instant) {
        while !woken.is_full()
            && let Some((waker, _)) = self.queue.refuse_stale(now)
        {
            woken.push(waker);
        }
    }

    /// Lets the queue follow the destination's latencies, ten times a second at most.
    pub(super) fn adapt(&mut self, latency: &Sketch, now: Instant) {
        let fresh = self
            .adapted
            .is_some_and(|at| now.saturating_duration_since(at) < ADAPT);
        if fresh {
            return;
        }
        self.adapted = Some(now);
        let limit = self.limiter.limit();
        let per_second = self.throughput.per_second(now);
        self.queue.adapt(
            Estimates::new(&latency.summary(now), per_second, limit),
            limit,
        );
    }
}

const ADAPT: Duration = Duration::from_millis(100);
