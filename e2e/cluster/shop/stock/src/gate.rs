//! What every request goes through: it counts them, and does to them what the fault says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::sync::Notify;

use crate::fault::Fault;

/// Passed on by every service; this one calls none, and keeps the last ones that it saw.
const FORWARDED: [&str; 4] = ["traceparent", "tracestate", "baggage", "x-request-id"];

/// What the service has done since it started or was reset.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    served: u64,
    failed: u64,
    concurrent: u64,
    concurrent_max: u64,
}

/// Shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fault: Fault,
    /// Of the next faulty answer: a share is kept exactly, not by chance.
    owed: f64,
    working: usize,
    /// Oldest first.
    waiting: VecDeque<Arc<Turn>>,
    counts: Counts,
    last: BTreeMap<&'static str, String>,
    ending: bool,
}

/// The place of a request in the queue.
#[derive(Debug, Default)]
struct Turn {
    given: Notify,
}

impl Gate {
    /// Waits for a place and for the fault's delay.
    pub(crate) async fn enter(&self, headers: &HeaderMap) -> Visit<'_> {
        let (turn, delay) = self.state().arrive(headers);
        let mut visit = Visit {
            gate: self,
            turn,
            well: false,
        };
        if let Some(turn) = visit.turn.as_ref() {
            turn.given.notified().await;
            visit.turn = None;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        visit
    }

    /// Sets what the service does wrong; the default heals it.
    pub(crate) fn set(&self, fault: Fault) {
        let mut state = self.state();
        state.fault = fault;
        state.owed = 0.0;
        state.admit();
    }

    /// Zeroes the counts; requests that are in the service stay counted as such.
    pub(crate) fn reset(&self) {
        let mut state = self.state();
        let concurrent = state.counts.concurrent;
        state.counts = Counts {
            concurrent,
            concurrent_max: concurrent,
            ..Counts::default()
        };
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    pub(crate) fn last(&self) -> BTreeMap<&'static str, String> {
        self.state().last.clone()
    }

    pub(crate) fn end(&self) {
        self.state().ending = true;
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state().ending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The numbers stay right whoever panicked meanwhile.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn arrive(&mut self, headers: &HeaderMap) -> (Option<Arc<Turn>>, Duration) {
        self.counts.concurrent += 1;
        self.counts.concurrent_max = self.counts.concurrent_max.max(self.counts.concurrent);
        for name in FORWARDED {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            self.last.insert(name, value.unwrap_or_default().to_owned());
        }
        let turn = if self.is_full() {
            let turn = Arc::new(Turn::default());
            self.waiting.push_back(Arc::clone(&turn));
            Some(turn)
        } else {
            self.working += 1;
            None
        };
        (turn, self.fault.delay)
    }

    fn is_full(&self) -> bool {
        self.fault
            .concurrency
            .is_some_and(|most| self.working >= most)
    }

    /// Gives free places to those who wait.
    fn admit(&mut self) {
        while !self.is_full() {
            let Some(turn) = self.waiting.pop_front() else {
                return;
            };
            self.working += 1;
            turn.given.notify_one();
        }
    }

    fn verdict(&mut self) -> Option<StatusCode> {
        let status = self.fault.status?;
        self.owed += self.fault.share;
        if self.owed < 1.0 {
            return None;
        }
        self.owed -= 1.0;
        Some(status)
    }
}

/// A request in the service, from its arrival to its answer, or until its caller has left.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    gate: &'a Gate,
    /// While it waits.
    turn: Option<Arc<Turn>>,
    well: bool,
}

impl Visit<'_> {
    /// The status to answer instead of the work.
    pub(crate) fn verdict(&self) -> Option<StatusCode> {
        self.gate.state().verdict()
    }

    /// Ends it with its answer.
    pub(crate) fn leave(mut self, well: bool) {
        self.well = well;
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.counts.concurrent -= 1;
        if self.well {
            state.counts.served += 1;
        } else {
            state.counts.failed += 1;
        }
        let queued = self.turn.as_ref().and_then(|own| {
            let same = |other: &Arc<Turn>| Arc::ptr_eq(other, own);
            state.waiting.iter().position(same)
        });
        if let Some(place) = queued {
            state.waiting.remove(place);
        } else {
            // It had its place, or was just given one.
            state.working -= 1;
            state.admit();
        }
    }
}
