//! A policy, compiled: what the data plane reads once a call.
//!
//! A [`Policy`] comes only from a validated document, so none of its values can be out of range.

use std::sync::Arc;
use std::time::Duration;

/// A compiled policy: the rules of its routes, ready to be matched.
#[derive(Debug, Clone)]
pub struct Policy {
    defaults: Arc<Rule>,
}

/// What a call is matched by.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Host of the call, lower case, without its port.
    pub host: &'a str,
    /// Port of the original destination.
    pub port: u16,
    /// Path without its query; empty for opaque connections.
    pub path: &'a str,
    /// HTTP method.
    pub method: &'a http::Method,
}

impl Policy {
    /// The rule for a call: of the most specific route that matches, or the defaults.
    #[must_use]
    pub fn rule(&self, _target: &Target<'_>) -> &Arc<Rule> {
        &self.defaults
    }

    /// Whether connections to `port` are forwarded without looking at their bytes.
    #[must_use]
    pub fn is_opaque_port(&self, port: u16) -> bool {
        crate::well_known::OPAQUE_PORTS.contains(&port)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            defaults: Arc::new(Rule::default()),
        }
    }
}

/// Everything that weir obeys for a call of one route.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The route's name; `defaults` where no route matched.
    pub name: Arc<str>,
    /// Set when the route brings its own admission, budget or breaker: these are then kept apart from those that the
    /// destination's other routes share. The route's name.
    pub scope: Option<Arc<str>>,
    /// Whether decisions are acted on.
    pub mode: Mode,
    /// Longest time for the whole call: queue, attempts and backoff. None: only what the caller propagates.
    pub deadline: Option<Duration>,
    /// Longest time for one attempt, from its dispatch to the response head.
    pub attempt_timeout: AttemptTimeout,
    /// Which attempts are repeated, and how.
    pub retry: Retry,
    /// How many calls the destination gets at a time, and how the others wait.
    pub admission: Admission,
    /// The priority of calls that bring none.
    pub priority: Priority,
    /// When an endpoint is left alone for a while. None: never.
    pub breaker: Option<Breaker>,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: Arc::from("defaults"),
            scope: None,
            mode: Mode::Enforce,
            deadline: None,
            attempt_timeout: AttemptTimeout::None,
            retry: Retry::default(),
            admission: Admission::default(),
            priority: Priority::Normal,
            breaker: None,
        }
    }
}

/// Whether decisions are acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Decide, count and act.
    Enforce,
    /// Decide and count, but let the call pass as if there were no policy.
    Observe,
    /// Forward; ids and traces only.
    Off,
}

/// Longest time for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptTimeout {
    /// Only the call's deadline bounds an attempt.
    None,
    /// From the destination's own latency distribution.
    Adaptive,
    /// A fixed length.
    After(Duration),
}

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

/// How much a call matters when not all can be served; a lower one waits behind and is shed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// First out of the queue, last to be shed.
    Critical,
    /// The default.
    Normal,
    /// Last out of the queue, first to be shed.
    Sheddable,
}

impl Priority {
    /// The priority of a retry: one below that of its first try.
    #[must_use]
    pub fn lowered(self) -> Self {
        match self {
            Self::Critical => Self::Normal,
            Self::Normal | Self::Sheddable => Self::Sheddable,
        }
    }
}

/// When an endpoint is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that eject an endpoint.
    pub consecutive_failures: u32,
    /// First ejection; each further one in a row is twice as long.
    pub ejection_min: Duration,
    /// Longest ejection.
    pub ejection_max: Duration,
}
