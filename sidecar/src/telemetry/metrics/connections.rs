//! Counts a connection from its opening to its end, and its bytes.

use std::sync::Arc;

use super::Metrics;
use super::labels::{Closed, Direction, Side, Speaks};
use super::numbers::Counters;

/// An open connection: counted as active until it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    metrics: Arc<Metrics>,
    side: Side,
    speaks: Speaks,
}

impl ConnectionGuard {
    pub(super) fn new(metrics: Arc<Metrics>, side: Side, speaks: Speaks) -> Self {
        metrics.active.add_one((side, speaks));
        Self {
            metrics,
            side,
            speaks,
        }
    }

    /// The connection is now known to speak this.
    pub fn set(&mut self, speaks: Speaks) {
        self.metrics.active.take_one((self.side, self.speaks));
        self.metrics.active.add_one((self.side, speaks));
        self.speaks = speaks;
    }

    /// Counts bytes that were read from the peer. Two additions at most: call it for a read, not for a byte.
    pub fn received(&self, bytes: u64) {
        self.metrics
            .bytes
            .add((self.side, Direction::Received), bytes);
    }

    /// Counts bytes that were written to the peer.
    pub fn sent(&self, bytes: u64) {
        self.metrics.bytes.add((self.side, Direction::Sent), bytes);
    }

    /// Counts the same bytes, for whoever holds the socket.
    #[must_use]
    pub fn meter(&self) -> Meter {
        Meter {
            metrics: Arc::clone(&self.metrics),
            side: self.side,
        }
    }
}

/// Counts bytes of one side's connections where they are read and written: one relaxed addition a read or write.
#[derive(Debug, Clone)]
pub struct Meter {
    metrics: Arc<Metrics>,
    side: Side,
}

impl Meter {
    /// Bytes were read from the peer.
    pub fn received(&self, bytes: usize) {
        self.add(Direction::Received, bytes);
    }

    /// Bytes were written to the peer.
    pub fn sent(&self, bytes: usize) {
        self.add(Direction::Sent, bytes);
    }

    fn add(&self, direction: Direction, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.metrics.bytes.add((self.side, direction), bytes);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let labels = (self.side, self.speaks);
        self.metrics.active.take_one(labels);
        self.metrics.ended.add_one(labels);
    }
}

impl Closed for (Side, Speaks) {
    const ALL: &'static [Self] = &[
        (Side::Downstream, Speaks::Unknown),
        (Side::Downstream, Speaks::Http1),
        (Side::Downstream, Speaks::Http2),
        (Side::Downstream, Speaks::Tls),
        (Side::Downstream, Speaks::Opaque),
        (Side::Downstream, Speaks::Tunnel),
        (Side::Upstream, Speaks::Unknown),
        (Side::Upstream, Speaks::Http1),
        (Side::Upstream, Speaks::Http2),
        (Side::Upstream, Speaks::Tls),
        (Side::Upstream, Speaks::Opaque),
        (Side::Upstream, Speaks::Tunnel),
    ];
    fn word(self) -> &'static str {
        self.1.word()
    }
}

impl Closed for (Side, Direction) {
    const ALL: &'static [Self] = &[
        (Side::Downstream, Direction::Received),
        (Side::Downstream, Direction::Sent),
        (Side::Upstream, Direction::Received),
        (Side::Upstream, Direction::Sent),
    ];
    fn word(self) -> &'static str {
        self.1.word()
    }
}

/// Connections by side and protocol.
pub(super) type ConnectionCounts = Counters<(Side, Speaks), 12>;
/// Bytes by side and direction.
pub(super) type ByteCounts = Counters<(Side, Direction), 4>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_active_until_it_is_dropped_and_moves_with_what_it_speaks() {
        let metrics = Arc::new(Metrics::default());
        let mut guard = metrics.connection(Side::Downstream, Speaks::Unknown);
        assert_eq!(metrics.active.get((Side::Downstream, Speaks::Unknown)), 1);
        guard.set(Speaks::Http2);
        assert_eq!(metrics.active.get((Side::Downstream, Speaks::Unknown)), 0);
        assert_eq!(metrics.active.get((Side::Downstream, Speaks::Http2)), 1);
        guard.sent(5);
        guard.meter().sent(2);
        drop(guard);
        assert_eq!(metrics.active.sum(), 0);
        assert_eq!(metrics.ended.get((Side::Downstream, Speaks::Http2)), 1);
        assert_eq!(metrics.bytes_of(Side::Downstream, Direction::Sent), 7);
    }
}
