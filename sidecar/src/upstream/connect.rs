//! Opens a TCP connection to an upstream, with the socket options that every leg has.

use std::time::Duration;

/// What connections to upstreams are made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Longest time for the TCP handshake.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept for the next call.
    pub idle_timeout: Duration,
    /// Most unused connections kept per address.
    pub idle_max: usize,
    /// Largest header section accepted, in bytes.
    pub header_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(4),
            idle_max: 256,
            header_bytes_max: 64 * 1024,
        }
    }
}
