//! Every metric that weir exposes, declared in full: what is scraped is what stands here, so grepping a name finds its line.
//!
//! Names start with `weir_`; facts of the process bear the names that Prometheus' own libraries use, so that existing
//! dashboards find them.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// One metric: its name as scraped (counters with `_total`, histograms without `_bucket`), and what it means.
#[derive(Debug)]
pub struct Declaration {
    /// Name as scraped.
    pub name: &'static str,
    /// What it counts, for people.
    pub help: &'static str,
    /// Counter, gauge, histogram or info.
    pub kind: MetricType,
    /// The unit, which the name ends with.
    pub unit: Option<Unit>,
    /// Names of its labels. Their values come from [closed sets](super::labels), `destination` from a bounded table.
    pub labels: &'static [&'static str],
}

impl Declaration {
    /// The name without the suffixes that the exposition format adds.
    #[must_use]
    pub fn stem(&self) -> &'static str {
        let name = match self.kind {
            MetricType::Counter => self.name.trim_end_matches("_total"),
            MetricType::Info => self.name.trim_end_matches("_info"),
            MetricType::Gauge | MetricType::Histogram | MetricType::Unknown => self.name,
        };
        match &self.unit {
            Some(unit) => name
                .strip_suffix(unit.as_str())
                .map_or(name, |stem| stem.trim_end_matches('_')),
            None => name,
        }
    }
}

/// All of them, in the order in which they are scraped.
pub const ALL: &[&Declaration] = &[
    &CALLS,
    &CALL_DURATION,
    &ATTEMPTS,
    &ATTEMPT_DURATION,
    &ATTEMPT_ERRORS,
    &RETRIES,
    &REJECTED,
    &QUEUE_WAIT,
    &QUEUE_LENGTH,
    &QUEUE_OLDEST,
    &LIMIT,
    &IN_FLIGHT,
    &BUDGET,
    &STATE,
    &EJECTED,
    &OBSERVED,
    &DECISIONS,
    &CONNECTIONS_ACTIVE,
    &CONNECTIONS_IDLE,
    &CONNECTIONS_CLOSED,
    &CONNECTION_BYTES,
    &DETECTIONS,
    &DETECT_TIMEOUTS,
    &MALFORMED,
    &HEADER_LIMIT,
    &ACCEPT_PAUSES,
    &BYPASSES,
    &LATENESS,
    &BUSY,
    &POLICY_REVISION,
    &POLICY_UPDATES,
    &CONTROL_REQUESTS,
    &CONTROL_REFUSALS,
    &SPANS_EXPORTED,
    &SPANS_DROPPED,
    &LOG_SUPPRESSED,
    &BUILD,
    &RESIDENT,
    &PROPORTIONAL,
    &DESCRIPTORS,
    &DESCRIPTORS_MAX,
    &CPU,
    &STARTED,
];

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

/// Open connections.
pub const CONNECTIONS_ACTIVE: Declaration = Declaration {
    name: "weir_connections_active",
    help: "Connections that are open now",
    kind: MetricType::Gauge,
    unit: None,
    labels: &["side", "protocol"],
};

/// Pooled connections without a call.
pub const CONNECTIONS_IDLE: Declaration = Declaration {
    name: "weir_upstream_idle_connections",
    help: "HTTP/1 connections to servers that are open and wait for their next call",
    kind: MetricType::Gauge,
    unit: None,
    labels: &[],
};

/// Connections that have ended.
pub const CONNECTIONS_CLOSED: Declaration = Declaration {
    name: "weir_connections_closed_total",
    help: "Connections that have ended, by the protocol that they were last known to speak",
    kind: MetricType::Counter,
    unit: None,
    labels: &["side", "protocol"],
};

/// Bytes on the wire.
pub const CONNECTION_BYTES: Declaration = Declaration {
    name: "weir_connection_bytes_total",
    help: "Bytes read from and written to peers on their sockets, of whatever protocol",
    kind: MetricType::Counter,
    unit: Some(Unit::Bytes),
    labels: &["side", "direction"],
};

/// How detection ended.
pub const DETECTIONS: Declaration = Declaration {
    name: "weir_detect_outcomes_total",
    help: "Connections by what detection took them for",
    kind: MetricType::Counter,
    unit: None,
    labels: &["protocol"],
};

/// Detection that found nothing in time.
pub const DETECT_TIMEOUTS: Declaration = Declaration {
    name: "weir_detect_timeouts_total",
    help: "Connections on which the application said too little to tell a protocol before the detection timeout",
    kind: MetricType::Counter,
    unit: None,
    labels: &[],
};

/// Bad input.
pub const MALFORMED: Declaration = Declaration {
    name: "weir_malformed_input_total",
    help: "Messages of the application that were refused because they broke their protocol's rules",
    kind: MetricType::Counter,
    unit: None,
    labels: &["protocol", "kind"],
};

/// Headers over the limit.
pub const HEADER_LIMIT: Declaration = Declaration {
    name: "weir_header_limit_refusals_total",
    help: "Messages of the application that were refused because their headers are larger than the limit",
    kind: MetricType::Counter,
    unit: None,
    labels: &["protocol"],
};

/// Pauses of the listener.
pub const ACCEPT_PAUSES: Declaration = Declaration {
    name: "weir_accept_pauses_total",
    help: "Times that accepting paused for want of something",
    kind: MetricType::Counter,
    unit: None,
    labels: &["reason"],
};

/// Connections that weir never sees.
pub const BYPASSES: Declaration = Declaration {
    name: "weir_bypass_connections_seen_total",
    help: "Connections that bypass weir because another process of the pod runs as the proxy's user, as seen at looks 10 s apart; with WEIR_PROXY_UID only",
    kind: MetricType::Counter,
    unit: None,
    labels: &[],
};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_stem_with_the_suffixes_that_the_format_adds() {
        for metric in ALL {
            let mut name = metric.stem().to_owned();
            if let Some(unit) = &metric.unit {
                name = format!("{name}_{}", unit.as_str());
            }
            match metric.kind {
                MetricType::Counter => name.push_str("_total"),
                MetricType::Info => name.push_str("_info"),
                MetricType::Gauge | MetricType::Histogram | MetricType::Unknown => {}
            }
            assert_eq!(name, metric.name);
        }
    }

    #[test]
    fn names_are_unique_and_helps_are_one_line_without_a_full_stop() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(!metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']));
        }
    }
}
