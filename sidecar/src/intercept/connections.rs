//! The application's open connections: how many there may be, and what each of them is.
//!
//! One [`Connections`] stands for the whole process. Its lock is held for an insertion, a removal or a snapshot; what
//! changes while a connection lives is atomic.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use slab::Slab;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::memory::Memory;
use crate::telemetry::metrics::{Closed as _, ConnectionGuard, Meter, Metrics, Side, Speaks};

/// The application's open connections.
#[derive(Debug)]
pub struct Connections {
    places: Arc<Semaphore>,
    open: Mutex<Slab<Arc<Connection>>>,
    opened: AtomicU64,
    memory: Arc<Memory>,
    metrics: Arc<Metrics>,
}

impl Connections {
    /// None yet, at most `connections_max` at a time, and none while `memory` is short.
    #[must_use]
    pub fn new(connections_max: usize, memory: Arc<Memory>, metrics: Arc<Metrics>) -> Self {
        let places = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places)),
            open: Mutex::default(),
            opened: AtomicU64::new(0),
            memory,
            metrics,
        }
    }

    /// Waits until one more connection may be accepted. Cancel-safe.
    pub async fn place(&self) -> Place {
        let permit = Arc::clone(&self.places).acquire_owned().await;
        // Nothing closes the semaphore; without its permit there would only be one bound less.
        Place(permit.ok())
    }

    /// Whether all places are taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// The memory that further ones would take.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.lock().len()
    }

    /// Where they are counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Adds a connection, with the policy revision in force; it is listed until the guard is dropped.
    #[must_use]
    pub fn add(
        self: &Arc<Self>,
        peer: SocketAddr,
        destination: SocketAddr,
        revision: u64,
    ) -> Guard {
        let connection = Arc::new(Connection {
            id: self.opened.fetch_add(1, Relaxed),
            peer,
            destination,
            revision,
            since: Instant::now(),
            speaks: AtomicU8::new(number(Speaks::Unknown)),
            name: OnceLock::new(),
            calls: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
        });
        let key = self.lock().insert(Arc::clone(&connection));
        Guard {
            connections: Arc::clone(self),
            key,
            connection,
            counted: self.metrics.connection(Side::Downstream, Speaks::Unknown),
        }
    }

    /// The open connections, at most `count_max` of them.
    #[must_use]
    pub fn snapshot(&self, count_max: usize) -> Vec<Arc<Connection>> {
        let open = self.lock();
        let some = open.iter().take(count_max);
        some.map(|(_, connection)| Arc::clone(connection)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one open connection; given back when dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

/// Lists and counts a connection for as long as it lives.
#[derive(Debug)]
pub struct Guard {
    connections: Arc<Connections>,
    key: usize,
    connection: Arc<Connection>,
    counted: ConnectionGuard,
}

impl Guard {
    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Where it is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.connections.metrics()
    }

    /// Notes what it turned out to be.
    pub fn set(&mut self, speaks: Speaks) {
        self.connection.speaks.store(number(speaks), Relaxed);
        self.counted.set(speaks);
    }

    /// Counts bytes of HTTP, where they are read and written. For the connection itself they are not counted.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.counted.meter()
    }

    /// Counts bytes that came from the application.
    pub fn received(&self, bytes: u64) {
        self.connection.bytes_received.fetch_add(bytes, Relaxed);
        self.counted.received(bytes);
    }

    /// Counts bytes that went to the application.
    pub fn sent(&self, bytes: u64) {
        self.connection.bytes_sent.fetch_add(bytes, Relaxed);
        self.counted.sent(bytes);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.connections.lock().try_remove(self.key);
    }
}

/// One of the application's connections.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    peer: SocketAddr,
    destination: SocketAddr,
    revision: u64,
    since: Instant,
    speaks: AtomicU8,
    name: OnceLock<Box<str>>,
    calls: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
}

impl Connection {
    /// Unique in this process, from 0.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The application's end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Where the application dialled.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// The policy revision that decides its next call or, where it brings none, that decided how it is forwarded.
    #[must_use]
    pub fn revision(&self, in_force: u64) -> u64 {
        match self.speaks() {
            Speaks::Unknown | Speaks::Http1 | Speaks::Http2 => in_force,
            Speaks::Tls | Speaks::Opaque | Speaks::Tunnel => self.revision,
        }
    }

    /// When it was accepted.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The destination's name, where the connection brought one (TLS server name, CONNECT target).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.get().map(AsRef::as_ref)
    }

    /// Notes the destination's name; the first one stays.
    pub fn set_name(&self, name: Box<str>) {
        self.name.get_or_init(|| name);
    }

    /// What it turned out to be.
    #[must_use]
    pub fn speaks(&self) -> Speaks {
        let stored = self.speaks.load(Relaxed);
        let found = Speaks::ALL.iter().find(|speaks| number(**speaks) == stored);
        found.copied().unwrap_or(Speaks::Unknown)
    }

    /// How many calls it brought.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Notes a call.
    pub fn count_call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    /// Bytes that came from the application; counted only where they are not HTTP.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received.load(Relaxed)
    }

    /// Bytes that went to the application; counted only where they are not HTTP.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Relaxed)
    }
}

fn number(speaks: Speaks) -> u8 {
    match speaks {
        Speaks::Unknown => 0,
        Speaks::Http1 => 1,
        Speaks::Http2 => 2,
        Speaks::Tls => 3,
        Speaks::Opaque => 4,
        Speaks::Tunnel => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 80))
    }

    fn connections(connections_max: usize) -> Arc<Connections> {
        Arc::new(Connections::new(
            connections_max,
            Arc::default(),
            Arc::default(),
        ))
    }

    #[test]
    fn a_connection_is_listed_until_its_guard_is_dropped() {
        let connections = connections(10);
        let mut guard = connections.add(addr(), addr(), 1);
        guard.set(Speaks::Tls);
        guard.received(7);
        guard.connection().set_name("shop".into());
        guard.connection().count_call();
        let listed = connections.snapshot(10).pop().unwrap();
        assert_eq!(
            (listed.speaks(), listed.name(), listed.calls()),
            (Speaks::Tls, Some("shop"), 1)
        );
        assert_eq!((listed.bytes_received(), listed.bytes_sent()), (7, 0));
        assert_eq!(connections.open(), 1);
        drop(guard);
        assert_eq!(connections.open(), 0);
    }

    #[test]
    fn each_protocol_has_a_number_of_its_own() {
        let connections = connections(10);
        let mut guard = connections.add(addr(), addr(), 1);
        for speaks in Speaks::ALL {
            guard.set(*speaks);
            assert_eq!(guard.connection().speaks(), *speaks);
        }
    }

    #[test]
    fn a_snapshot_is_bounded() {
        let connections = connections(10);
        let _guards: Vec<_> = (0..5).map(|_| connections.add(addr(), addr(), 1)).collect();
        assert_eq!(connections.snapshot(3).len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_waited_for_while_all_are_taken() {
        let connections = connections(1);
        let place = connections.place().await;
        let wait = std::time::Duration::from_hours(1);
        let blocked = tokio::time::timeout(wait, connections.place()).await;
        assert!(blocked.is_err() && connections.is_full());
        drop(place);
        connections.place().await;
    }
}
