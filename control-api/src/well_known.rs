//! The facts that pod, chart and proxy must agree on: ports, paths, ids, header names.
//!
//! They stand once, here. The chart's values and the documentation are held equal to them by tests.

/// TCP port that the redirect rules send outbound connections to; bound on loopback only.
pub const OUTBOUND_PORT: u16 = 19401;
/// TCP port of the admin server: `/metrics`, `/livez`, `/readyz` and the live page.
pub const ADMIN_PORT: u16 = 19402;
/// TCP port of the explicit HTTP proxy, for applications that may not be redirected; bound on loopback only.
pub const EXPLICIT_PROXY_PORT: u16 = 19403;
/// TCP port of the control API; opened on loopback only when asked for, and then with a bearer token.
pub const CONTROL_PORT: u16 = 19404;
/// The variables by which HTTP clients are told of a proxy. Lower case for curl and wget (which ignore `HTTP_PROXY`,
/// because a CGI program could be tricked with it), upper case for most others, `grpc_proxy` for gRPC's C core.
pub const PROXY_VARIABLES: [&str; 7] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "grpc_proxy",
];

/// The variables that make an exception of addresses.
pub const NO_PROXY_VARIABLES: [&str; 3] = ["no_proxy", "NO_PROXY", "no_grpc_proxy"];
/// The control API's Unix socket in a pod.
pub const CONTROL_SOCKET: &str = "/run/weir/control.sock";
/// The user id that the proxy runs as in a pod; its own connections are not redirected.
///
/// Not 1337 (Istio), 2102 (Linkerd), 5678 (Kuma) or 5995 (Consul): a pod meshed twice must not collide.
pub const PROXY_UID: u32 = 19400;
/// Least memory, in bytes, that a proxy can be told to keep to: an idle one takes 7 MiB, and would refuse everything with less.
pub const PROXY_MEMORY_MIN: u64 = 16 << 20;
/// Where a pod's policy is mounted.
pub const POLICY_DIR: &str = "/etc/weir/policy";
/// Where a pod keeps its state: the control socket and the last good policy.
pub const STATE_DIR: &str = "/run/weir";

/// Ports whose protocols never start with HTTP or TLS from the client; detection is skipped for them.
///
/// SMTP, submission, DNS over TCP, `MySQL`, Galera, `PostgreSQL`, Redis, Kafka, Elasticsearch transport, memcached,
/// `MongoDB`, NATS, AMQP, SQL Server.
pub const OPAQUE_PORTS: &[u16] = &[
    25, 53, 587, 1433, 3306, 4222, 4444, 5432, 5672, 6379, 9092, 9300, 11211, 27017,
];

/// Names in Kubernetes.
pub mod kubernetes {
    /// What every label and annotation of weir's starts with.
    pub const PREFIX: &str = "weir.dev/";
    /// The init container that installs the redirect rules.
    pub const REDIRECT_CONTAINER: &str = "weir-redirect";
    /// The container of the proxy.
    pub const PROXY_CONTAINER: &str = "weir-proxy";
    /// The admin port's name, by which it is scraped.
    pub const ADMIN_PORT_NAME: &str = "weir-metrics";
    /// The `ConfigMap` with the policy of its namespace.
    pub const POLICY_CONFIG_MAP: &str = "weir-policy";
    /// The key of that `ConfigMap` that holds the document, and so its file's name.
    pub const POLICY_KEY: &str = "policy.yaml";
    /// Where the image has its binaries; on the `PATH`, so that `weirctl` can be run in the container by its name.
    pub const BINARY_DIR: &str = "/usr/local/bin";

    /// Whether a text can be the name of most objects: a subdomain of RFC 1123, of which Kubernetes bounds only the whole.
    #[must_use]
    pub fn is_subdomain(text: &str) -> bool {
        text.len() <= SUBDOMAIN_BYTES_MAX && text.split('.').all(is_dns_text)
    }

    /// Whether a text can be the name of a namespace: a label of RFC 1123.
    #[must_use]
    pub fn is_label(text: &str) -> bool {
        text.len() <= LABEL_BYTES_MAX && is_dns_text(text)
    }

    fn is_dns_text(text: &str) -> bool {
        let is_inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        !text.is_empty()
            && text.bytes().all(is_inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
    }

    /// RFC 1123 § 2.1, RFC 1035 § 2.3.4.
    pub const LABEL_BYTES_MAX: usize = 63;
    /// As RFC 1035 § 2.3.4, without the bytes that are not written.
    pub const SUBDOMAIN_BYTES_MAX: usize = 253;
}

/// Header names, all lower case.
pub mod header {
    /// The correlation id: kept when present, minted when absent, the same on every attempt and on the response.
    pub const REQUEST_ID: &str = "x-request-id";
    /// Accepted as the source of the correlation id when `x-request-id` is absent.
    pub const CORRELATION_ID: &str = "x-correlation-id";
    /// Request: the number of this try, from 1.
    pub const ATTEMPT: &str = "x-weir-attempt";
    /// Request: milliseconds left of the call's deadline.
    pub const DEADLINE_MS: &str = "x-weir-deadline-ms";
    /// Request: `critical`, `normal` or `sheddable`.
    pub const PRIORITY: &str = "x-weir-priority";
    /// Response: why weir refused the call itself.
    pub const SHED: &str = "x-weir-shed";
    /// Response: `none`, `exhausted` or a number of milliseconds.
    pub const RETRY: &str = "x-weir-retry";
    /// Envoy's request deadline, read.
    pub const ENVOY_EXPECTED_TIMEOUT_MS: &str = "x-envoy-expected-rq-timeout-ms";
    /// Envoy's attempt count, read.
    pub const ENVOY_ATTEMPT_COUNT: &str = "x-envoy-attempt-count";
    /// gRPC: the call's timeout.
    pub const GRPC_TIMEOUT: &str = "grpc-timeout";
    /// gRPC: how long to wait before a retry; negative means no retry.
    pub const GRPC_RETRY_PUSHBACK_MS: &str = "grpc-retry-pushback-ms";
    /// gRPC: tries before this one.
    pub const GRPC_PREVIOUS_RPC_ATTEMPTS: &str = "grpc-previous-rpc-attempts";
    /// gRPC: the call's status, in trailers or in a trailers-only response.
    pub const GRPC_STATUS: &str = "grpc-status";
    /// gRPC: text beside the status, percent-encoded.
    pub const GRPC_MESSAGE: &str = "grpc-message";
    /// The application's own promise that repeating a request is safe.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
}
