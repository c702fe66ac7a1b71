//! How many calls a destination gets at a time, and how the others wait.

use std::time::Duration;

/// How many calls a destination gets at a time, and how the others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Most calls in flight to one destination.
    pub limit: u32,
    /// Most calls that wait. None: from the limit and the destination's measured rate.
    pub queue_length: Option<u32>,
    /// Wait above which the queue is called standing. None: from the destination's measured latency.
    pub queue_target: Option<Duration>,
    /// Longest wait for a permit.
    pub queue_timeout: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            limit: 1024,
            queue_length: None,
            queue_target: None,
            queue_timeout: Duration::from_secs(1),
        }
    }
}
