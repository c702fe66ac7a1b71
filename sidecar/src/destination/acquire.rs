//! The wait for a permit, as a future that may be dropped at any time.
//!
//! Where there is room it is one short lock: no allocation, no timer, and no clock but for a deadline. Only a call that
//! waits gets a timer, for the queue timeout or its deadline, whichever comes first.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use control_api::policy::{Mode, Priority};
use tokio::time::{Instant, Sleep};

use super::Destination;
use super::admission::{Asked, Grant, Waited, WouldHave};
use super::endpoints::Pass;
use super::permit::Permit;
use crate::error::Shed;
use crate::overload::Ticket;

/// A call that wants a permit. Dropping it gives back its place, or the permit that it was just granted.
#[derive(Debug)]
#[must_use = "a permit is asked for only when this is polled"]
pub struct Acquire {
    // None once it has answered.
    destination: Option<Arc<Destination>>,
    asking: Asking,
    takes: Takes,
    pass: Option<Pass>,
    place: Option<Place>,
}

/// Why a call got no permit.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The reason.
    pub shed: Shed,
    /// When a new try may be worthwhile.
    pub retry_after: Duration,
    /// The numbers it was decided by.
    pub inputs: Inputs,
}

/// Numbers that a refusal was decided by, `(name, value)`; the names carry the unit.
pub type Inputs = [(&'static str, f64); 6];

#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    pub(super) endpoint: SocketAddr,
    pub(super) priority: Priority,
    pub(super) deadline: Option<Instant>,
    pub(super) mode: Mode,
}

/// What a permit is for, as far as memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// A call that begins, and takes buffers.
    NewMemory,
    /// A further attempt of a call that has them.
    WhatItHas,
}

/// A place in the queue.
#[derive(Debug)]
struct Place {
    ticket: Option<Ticket>,
    since: Instant,
    expiry: Pin<Box<Sleep>>,
}

impl Acquire {
    pub(super) fn new(destination: Arc<Destination>, asking: Asking) -> Self {
        Self {
            destination: Some(destination),
            asking,
            takes: Takes::NewMemory,
            pass: None,
            place: None,
        }
    }

    /// For a further attempt of a call under way: that goes on also while memory is short.
    pub fn going_on(mut self) -> Self {
        self.takes = Takes::WhatItHas;
        self
    }

    /// The first poll: a permit, a refusal, or a place in the queue.
    fn ask(&mut self, cx: &Context<'_>) -> Option<Result<Permit, Refusal>> {
        let destination = self.destination.as_ref()?;
        let is_short = self.takes == Takes::NewMemory
            && destination.memory.is_short()
            && destination.admission.in_flight() > 0;
        if self.asking.mode == Mode::Enforce {
            if is_short {
                return Some(Err(self.refuse(Shed::Memory, Some(MEMORY_RETRY_AFTER))));
            }
            match destination.endpoints.gate(self.asking.endpoint) {
                Ok(pass) => self.pass = pass,
                Err(left) => return Some(Err(self.refuse(Shed::Ejected, Some(left)))),
            }
        }
        if is_short && self.asking.mode == Mode::Observe {
            let grant = destination.admission.pass();
            return self.passed(grant, WouldHave::BeenRefused(Shed::Memory));
        }
        if let Some(grant) = destination.admission.take(&self.asking) {
            return self.granted(grant).map(Ok);
        }
        let latency = &destination.latency;
        match destination.admission.ask(&self.asking, latency, cx.waker()) {
            Asked::Granted(grant) => self.granted(grant).map(Ok),
            Asked::Passed(grant, would_have) => self.passed(grant, would_have),
            Asked::Refused(shed) => Some(Err(self.refuse(shed, None))),
            Asked::Waits(ticket, expires) => {
                destination.counters.waited();
                self.place = Some(Place {
                    ticket: Some(ticket),
                    since: Instant::now(),
                    expiry: Box::pin(tokio::time::sleep_until(expires)),
                });
                None
            }
        }
    }

    /// A later poll: whatever was decided meanwhile, or the end of the wait.
    fn wait(&mut self, cx: &mut Context<'_>) -> Option<Result<Permit, Refusal>> {
        let admission = &self.destination.as_ref()?.admission;
        let place = self.place.as_mut()?;
        let mut waited = admission.look(&mut place.ticket, cx.waker());
        if matches!(waited, Waited::StillWaits) && place.expiry.as_mut().poll(cx).is_ready() {
            waited = admission.expire(place.ticket.take());
        }
        match waited {
            Waited::Granted(grant) => self.granted(grant).map(Ok),
            Waited::Refused(shed) => Some(Err(self.refuse(shed, None))),
            Waited::StillWaits => None,
        }
    }

    fn passed(&mut self, grant: Grant, would_have: WouldHave) -> Option<Result<Permit, Refusal>> {
        let counters = &self.destination.as_ref()?.counters;
        match would_have {
            WouldHave::Waited => counters.would_have_waited(),
            WouldHave::BeenRefused(_) => counters.would_have_shed(),
        }
        let mut permit = self.granted(grant)?;
        permit.would_have = Some(would_have);
        Some(Ok(permit))
    }

    fn granted(&mut self, grant: Grant) -> Option<Permit> {
        let waited = self.waited();
        let destination = self.destination.take()?;
        destination.counters.attempted();
        Some(Permit::new(
            destination,
            grant,
            waited,
            self.asking.deadline,
            self.pass.take(),
        ))
    }

    fn refuse(&mut self, shed: Shed, retry_after: Option<Duration>) -> Refusal {
        let waited = self.waited();
        let Some(destination) = self.destination.take() else {
            return Refusal {
                shed,
                retry_after: retry_after.unwrap_or_default(),
                inputs: Inputs::default(),
            };
        };
        destination.counters.shed(shed);
        if let Some(pass) = self.pass.take() {
            destination.endpoints.leave(&pass);
        }
        let snapshot = destination.admission.snapshot(Instant::now());
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let p50 = snapshot.estimates.p50.unwrap_or_default();
        let [fifth, sixth] = if shed == Shed::Memory {
            destination.memory.inputs()
        } else {
            [
                ("waited_ms", milliseconds(waited)),
                ("p50_ms", milliseconds(p50)),
            ]
        };
        Refusal {
            shed,
            retry_after: retry_after.unwrap_or_else(|| destination.admission.retry_after()),
            inputs: [
                ("in_flight", f64::from(snapshot.in_flight)),
                ("limit", f64::from(snapshot.limit)),
                ("waiting", f64::from(snapshot.waiting)),
                ("queue_length_max", f64::from(snapshot.length)),
                fifth,
                sixth,
            ],
        }
    }

    fn waited(&self) -> Duration {
        self.place
            .as_ref()
            .map_or(Duration::ZERO, |place| place.since.elapsed())
    }
}

impl Future for Acquire {
    type Output = Result<Permit, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.place.is_none()
            && let Some(answer) = self.ask(cx)
        {
            return Poll::Ready(answer);
        }
        self.wait(cx).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(destination) = &self.destination else {
            return;
        };
        if let Some(ticket) = self.place.as_mut().and_then(|place| place.ticket.take()) {
            destination.admission.abandon(ticket);
        }
        if let Some(pass) = &self.pass {
            destination.endpoints.leave(pass);
        }
    }
}

/// When a call that was refused for memory may try again: a second after memory was freed it is given back.
const MEMORY_RETRY_AFTER: Duration = Duration::from_secs(1);
