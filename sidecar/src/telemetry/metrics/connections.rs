//! Counts a connection from its opening to its end.

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
        drop(guard);
        assert_eq!(metrics.active.sum(), 0);
        assert_eq!(metrics.ended.get((Side::Downstream, Speaks::Http2)), 1);
        assert_eq!(metrics.bytes.get((Side::Downstream, Direction::Sent)), 5);
    }
}
