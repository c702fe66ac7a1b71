//! Of connections, and of what comes in by them.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Declaration;

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
