//! Which attempts are repeated, and how.

use std::time::Duration;

/// Which attempts are repeated, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries in all, the first one included; at least 1.
    pub attempts: u32,
    /// Outcomes that are worth a retry.
    pub on: Conditions,
    /// Methods that may be repeated although the first try may have been processed.
    pub methods: Methods,
    /// First backoff; the n-th is drawn from `0..min(max, base * 2^(n-1))` (full jitter).
    pub backoff_base: Duration,
    /// Longest backoff.
    pub backoff_max: Duration,
    /// Retries per success.
    pub budget: Budget,
    /// Longest request body that is kept for a replay, in bytes.
    pub body_bytes_max: usize,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            on: Conditions::default(),
            methods: Methods::Idempotent,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            budget: Budget::default(),
            body_bytes_max: 64 * 1024,
        }
    }
}

/// Outcomes that are worth a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "a set: each member is on or off on its own"
)]
pub struct Conditions {
    /// No connection could be made.
    pub connect_failure: bool,
    /// HTTP/2 `REFUSED_STREAM`, or a GOAWAY below the stream.
    pub refused_stream: bool,
    /// The connection or stream ended before a response head.
    pub reset: bool,
    /// Response status 502.
    pub bad_gateway: bool,
    /// Response status 503.
    pub unavailable: bool,
    /// Response status 504, and attempt timeouts.
    pub gateway_timeout: bool,
    /// gRPC status 14 in a trailers-only response.
    pub grpc_unavailable: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            connect_failure: true,
            refused_stream: true,
            reset: true,
            bad_gateway: true,
            unavailable: true,
            gateway_timeout: true,
            grpc_unavailable: true,
        }
    }
}

/// Methods that may be repeated although the first try may have been processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// The idempotent ones of RFC 9110 §9.2.2, and requests that carry an `Idempotency-Key`.
    Idempotent,
    /// All of them.
    All,
    /// These, and no others.
    Only(Vec<http::Method>),
}

/// Retries per success.
///
/// Gateway API's retry budget (GEP-3388) says the same in other words: `budgetPercent: 20` is a ratio of 0.2, and what
/// its `minRetryRate` lets through while there is little traffic is here the burst. Its `interval` has no counterpart:
/// deposits are spent when they are needed, and never more than a burst of them is saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Retries that one success deposits, in thousandths of a retry.
    pub ratio_milli: u32,
    /// Retries that can be spent at once, and that a fresh budget starts with.
    pub burst: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            ratio_milli: 100,
            burst: 3,
        }
    }
}
