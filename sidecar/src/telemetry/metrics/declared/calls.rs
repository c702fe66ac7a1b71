//! Of calls, and of the destinations that they go to.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Declaration;

/// Calls that ended.
pub const CALLS: Declaration = Declaration {
    name: "weir_outbound_requests_total",
    help: "Calls that ended, by how they ended from the application's view",
    kind: MetricType::Counter,
    unit: None,
    labels: &["destination", "protocol", "outcome"],
};

/// How long calls took.
pub const CALL_DURATION: Declaration = Declaration {
    name: "weir_outbound_request_duration_seconds",
    help: "Time from a call's begin to the end of its response body: queue, attempts and backoff included",
    kind: MetricType::Histogram,
    unit: Some(Unit::Seconds),
    labels: &["destination"],
};

/// Attempts that were sent.
pub const ATTEMPTS: Declaration = Declaration {
    name: "weir_outbound_attempts_total",
    help: "Attempts that were dispatched; divided by the calls this is the amplification",
    kind: MetricType::Counter,
    unit: None,
    labels: &["destination", "result"],
};

/// How long the destination took.
pub const ATTEMPT_DURATION: Declaration = Declaration {
    name: "weir_outbound_attempt_duration_seconds",
    help: "Time from an attempt's dispatch to its response head or failure; what the destination itself costs",
    kind: MetricType::Histogram,
    unit: Some(Unit::Seconds),
    labels: &["destination"],
};

/// Attempts without a response.
pub const ATTEMPT_ERRORS: Declaration = Declaration {
    name: "weir_outbound_attempt_errors_total",
    help: "Attempts that brought no response head, by what went wrong",
    kind: MetricType::Counter,
    unit: None,
    labels: &["destination", "kind"],
};

/// Retries.
pub const RETRIES: Declaration = Declaration {
    name: "weir_outbound_retries_total",
    help: "Wishes to send a call again, by what they came to; refused and shed ones were not sent",
    kind: MetricType::Counter,
    unit: None,
    labels: &["destination", "outcome"],
};

/// Sheds.
pub const REJECTED: Declaration = Declaration {
    name: "weir_outbound_rejected_total",
    help: "Attempts that weir refused before they were sent, by reason",
    kind: MetricType::Counter,
    unit: None,
    labels: &["destination", "reason"],
};

/// Time spent in queues.
pub const QUEUE_WAIT: Declaration = Declaration {
    name: "weir_outbound_queue_wait_seconds",
    help: "Time that an attempt waited for a permit, whether it got one or not",
    kind: MetricType::Histogram,
    unit: Some(Unit::Seconds),
    labels: &["destination"],
};

/// Calls that wait.
pub const QUEUE_LENGTH: Declaration = Declaration {
    name: "weir_outbound_queue_length",
    help: "Attempts that wait for a permit now",
    kind: MetricType::Gauge,
    unit: None,
    labels: &["destination", "scope"],
};

/// The longest wait so far.
pub const QUEUE_OLDEST: Declaration = Declaration {
    name: "weir_outbound_queue_oldest_age_seconds",
    help: "How long the oldest waiting attempt has waited by now; 0 when none waits",
    kind: MetricType::Gauge,
    unit: Some(Unit::Seconds),
    labels: &["destination", "scope"],
};

/// The admission limit.
pub const LIMIT: Declaration = Declaration {
    name: "weir_outbound_limit",
    help: "Most calls that the destination gets at a time now",
    kind: MetricType::Gauge,
    unit: None,
    labels: &["destination", "scope"],
};

/// Calls under way.
pub const IN_FLIGHT: Declaration = Declaration {
    name: "weir_outbound_inflight",
    help: "Attempts that hold a permit now, response bodies included",
    kind: MetricType::Gauge,
    unit: None,
    labels: &["destination", "scope"],
};

/// What the retry budget holds.
pub const BUDGET: Declaration = Declaration {
    name: "weir_retry_budget_tokens",
    help: "Retries that the destination's budget would allow now",
    kind: MetricType::Gauge,
    unit: None,
    labels: &["destination", "scope"],
};

/// The state that people read.
pub const STATE: Declaration = Declaration {
    name: "weir_outbound_state",
    help: "1 for the state that the destination is in now, 0 for the others",
    kind: MetricType::Gauge,
    unit: None,
    labels: &["destination", "scope", "state"],
};

/// The breaker's state.
pub const EJECTED: Declaration = Declaration {
    name: "weir_breaker_ejected_endpoints",
    help: "Endpoints of the destination that the breaker leaves alone now",
    kind: MetricType::Gauge,
    unit: None,
    labels: &["destination", "scope"],
};

/// What observe mode would have done.
pub const OBSERVED: Declaration = Declaration {
    name: "weir_outbound_observed_total",
    help: "Calls that observe mode let pass, by what would have happened to them",
    kind: MetricType::Counter,
    unit: None,
    labels: &["destination", "scope", "verdict"],
};

/// Decisions.
pub const DECISIONS: Declaration = Declaration {
    name: "weir_decisions_total",
    help: "Decisions that changed a call's fate, or would have in observe mode, by what and why",
    kind: MetricType::Counter,
    unit: None,
    labels: &["verdict", "reason"],
};
