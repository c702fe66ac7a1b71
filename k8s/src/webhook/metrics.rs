//! What the webhook counts.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{MALFORMED, OVER_LIMIT};
use crate::reason::SKIPS;
use crate::review::UNSUPPORTED;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The webhook's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<ResultLabel, Counter>,
    duration: Histogram,
    certificate_expiry: Gauge<f64, AtomicU64>,
    certificate_loads: Family<ResultLabel, Counter>,
    certificate_checks: Family<ResultLabel, Counter>,
    certificate_renewals: Family<ResultLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weir_injector");
        let codes = SKIPS.iter().map(|(code, _)| *code);
        let requests = of_results(codes.chain([INJECTED, MALFORMED, OVER_LIMIT, UNSUPPORTED]));
        registry.register(
            "requests",
            "Reviews that were answered, by what became of the pod: injected, the code of a skip, malformed, or over_limit",
            requests.clone(),
        );
        let duration = Histogram::new(BUCKETS);
        registry.register_with_unit(
            "request_duration",
            "Time to answer a review, once its head was read",
            Unit::Seconds,
            duration.clone(),
        );
        let certificate_expiry = Gauge::default();
        registry.register_with_unit(
            "cert_expiry_timestamp",
            "When the certificate that is served ends to be valid, since 1970",
            Unit::Seconds,
            certificate_expiry.clone(),
        );
        let certificate_loads = of_results([OK, FAILED]);
        registry.register(
            "cert_loads",
            "Times that a new certificate was read, by whether it can be served: ok or failed",
            certificate_loads.clone(),
        );
        let certificate_checks = Family::default();
        registry.register(
            "cert_checks",
            "Looks at the certificate in the cluster, where the injector makes its own, by how they ended: ok, conflict, forbidden, absent, refused, unreachable or failed",
            certificate_checks.clone(),
        );
        let certificate_renewals = Family::default();
        registry.register(
            "cert_renewals",
            "What this replica wrote to the cluster, where the injector makes its own certificate: secret, authority, old_authorities, bundle or certificate",
            certificate_renewals.clone(),
        );
        Self {
            registry,
            requests,
            duration,
            certificate_expiry,
            certificate_loads,
            certificate_checks,
            certificate_renewals,
        }
    }
}

impl Metrics {
    /// A review was answered.
    pub fn answered(&self, result: &'static str, took: Duration) {
        self.requests.get_or_create(&ResultLabel { result }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A certificate is served from now on. `expiry` is in seconds since 1970; None: it cannot be told.
    pub(super) fn certificate_loaded(&self, expiry: Option<u32>) {
        self.loads(OK);
        self.certificate_expiry
            .set(expiry.map_or(f64::NAN, f64::from));
    }

    /// A look at the cluster ended; `result` is `ok` or what went wrong.
    pub(super) fn certificate_checked(&self, result: &'static str) {
        let label = ResultLabel { result };
        self.certificate_checks.get_or_create(&label).inc();
    }

    /// This was written to the cluster.
    pub(super) fn certificate_renewed(&self, result: &'static str) {
        let label = ResultLabel { result };
        self.certificate_renewals.get_or_create(&label).inc();
    }

    /// A new one cannot be served; the old certificate goes on.
    pub(super) fn certificate_failed(&self) {
        self.loads(FAILED);
    }

    fn loads(&self, result: &'static str) {
        let label = ResultLabel { result };
        self.certificate_loads.get_or_create(&label).inc();
    }

    /// All of them, as they are scraped.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A counter for each result, those that never occurred included: a rate needs the 0 before the 1.
fn of_results(results: impl IntoIterator<Item = &'static str>) -> Family<ResultLabel, Counter> {
    let family = Family::default();
    for result in results {
        drop(family.get_or_create(&ResultLabel { result }));
    }
    family
}

/// The result of a pod that got the sidecar.
const INJECTED: &str = "injected";
/// Changed certificate files that are served.
const OK: &str = "ok";
/// Changed certificate files that cannot be served.
const FAILED: &str = "failed";

/// Of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Up to the API server's patience with us.
const BUCKETS: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 5.0,
];
