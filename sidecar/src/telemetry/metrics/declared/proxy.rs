//! Of weir itself: its event loops, its policy, what it sends elsewhere, and its process.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Declaration;

/// How late a worker's event loop runs.
pub const LATENESS: Declaration = Declaration {
    name: "weir_event_loop_lateness_seconds",
    help: "How much later than asked a worker's timer fired; every call of that worker waited as long",
    kind: MetricType::Histogram,
    unit: Some(Unit::Seconds),
    labels: &["worker"],
};

/// How busy a worker is.
pub const BUSY: Declaration = Declaration {
    name: "weir_event_loop_busy_seconds_total",
    help: "Time that a worker's event loop spent working; its rate is the busy share",
    kind: MetricType::Counter,
    unit: Some(Unit::Seconds),
    labels: &["worker"],
};

/// The policy in force.
pub const POLICY_REVISION: Declaration = Declaration {
    name: "weir_policy_revision",
    help: "Revision of the policy that calls obey now",
    kind: MetricType::Gauge,
    unit: None,
    labels: &[],
};

/// Policies offered.
pub const POLICY_UPDATES: Declaration = Declaration {
    name: "weir_policy_updates_total",
    help: "Policies that were offered, by where they came from and what became of them",
    kind: MetricType::Counter,
    unit: None,
    labels: &["origin", "result"],
};

/// Requests to the control API.
pub const CONTROL_REQUESTS: Declaration = Declaration {
    name: "weir_control_requests_total",
    help: "Requests to the control API, those of refused callers included",
    kind: MetricType::Counter,
    unit: None,
    labels: &[],
};

/// Who was turned away by the control API.
pub const CONTROL_REFUSALS: Declaration = Declaration {
    name: "weir_control_refusals_total",
    help: "Requests of callers that may not use the control API, and connections beyond the most that it serves",
    kind: MetricType::Counter,
    unit: None,
    labels: &["reason"],
};

/// Spans that reached the collector.
pub const SPANS_EXPORTED: Declaration = Declaration {
    name: "weir_spans_exported_total",
    help: "Spans that the collector took",
    kind: MetricType::Counter,
    unit: None,
    labels: &[],
};

/// Spans that did not.
pub const SPANS_DROPPED: Declaration = Declaration {
    name: "weir_spans_dropped_total",
    help: "Spans that were due and did not reach the collector, by reason",
    kind: MetricType::Counter,
    unit: None,
    labels: &["reason"],
};

/// Log lines not written.
pub const LOG_SUPPRESSED: Declaration = Declaration {
    name: "weir_log_events_suppressed_total",
    help: "Log events left out because their kind came too often",
    kind: MetricType::Counter,
    unit: None,
    labels: &[],
};

/// What runs.
pub const BUILD: Declaration = Declaration {
    name: "weir_build_info",
    help: "The version that runs",
    kind: MetricType::Info,
    unit: None,
    labels: &["version"],
};

/// Resident memory.
pub const RESIDENT: Declaration = Declaration {
    name: "process_resident_memory_bytes",
    help: "Resident memory, pages shared with other processes included",
    kind: MetricType::Gauge,
    unit: Some(Unit::Bytes),
    labels: &[],
};

/// Proportional memory.
pub const PROPORTIONAL: Declaration = Declaration {
    name: "process_proportional_memory_bytes",
    help: "Resident memory with each shared page divided by its users (Pss)",
    kind: MetricType::Gauge,
    unit: Some(Unit::Bytes),
    labels: &[],
};

/// Open descriptors.
pub const DESCRIPTORS: Declaration = Declaration {
    name: "process_open_fds",
    help: "Descriptors that are open",
    kind: MetricType::Gauge,
    unit: None,
    labels: &[],
};

/// The descriptors' bound.
pub const DESCRIPTORS_MAX: Declaration = Declaration {
    name: "process_max_fds",
    help: "Descriptors that may be open",
    kind: MetricType::Gauge,
    unit: None,
    labels: &[],
};

/// CPU time.
pub const CPU: Declaration = Declaration {
    name: "process_cpu_seconds_total",
    help: "CPU time of the process, user and system",
    kind: MetricType::Counter,
    unit: Some(Unit::Seconds),
    labels: &[],
};

/// Start of the process.
pub const STARTED: Declaration = Declaration {
    name: "process_start_time_seconds",
    help: "When the process started, in seconds since 1970",
    kind: MetricType::Gauge,
    unit: Some(Unit::Seconds),
    labels: &[],
};
