//! A waiting call's place, and what becomes of it.

use std::time::Duration;

use control_api::policy::Priority;
use tokio::time::Instant;

use super::line::Links;
use crate::error::Shed;

/// A waiting call's place. Must be given back with [`Queue::remove`](super::Queue::remove).
#[derive(Debug)]
pub struct Ticket(pub(super) usize);

/// A call was let in.
#[derive(Debug)]
pub struct Pushed<T> {
    /// Its place.
    pub ticket: Ticket,
    /// When it is refused if nothing happened until then.
    pub expires: Instant,
    /// Who lost its place for it, and now has a [`Fate::Refused`].
    pub displaced: Option<T>,
}

/// What became of a call in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It waits; refused with this once its time is over.
    Waiting(Shed),
    /// It was handed out.
    Granted,
    /// It was refused.
    Refused(Shed),
}

/// A decision about a waiting call.
#[derive(Debug)]
pub enum Event<T> {
    /// It is its turn.
    Granted(T),
    /// It is refused.
    Refused(T, Shed),
}

#[derive(Debug)]
pub(super) struct Slot<T> {
    pub(super) waiter: Option<T>,
    pub(super) fate: Fate,
    pub(super) priority: Priority,
    pub(super) since: Instant,
    pub(super) expires: Instant,
    // What its deadline left it when it came.
    pub(super) allowed: Option<Duration>,
    pub(super) links: Links,
}
