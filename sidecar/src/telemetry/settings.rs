//! What the standard `OTEL_*` variables ask for, parsed once.
//!
//! Names, defaults and the precedence of `..._TRACES_...` over the general variables are those of OpenTelemetry's
//! specification (SDK configuration, OTLP exporter configuration); an empty value is an absent one. Where it tells an SDK to
//! warn and go on, weir stops instead, before anything listens: a typo should not cost the traces of an incident.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::sampler::{Parent, RATIO_DEFAULT, Root, Sampler};
use reader::{Reader, pairs};

mod reader;

/// What is exported, where to, and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Which traces are exported.
    pub sampler: Sampler,
    /// Where to. None: nothing is exported, and nothing is kept for it.
    pub export: Option<Export>,
}

/// Where spans go, and how.
#[derive(Clone, PartialEq)]
pub struct Export {
    /// The collector's URL, the signal's path included where the protocol has one.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Sent with every request: `OTEL_EXPORTER_OTLP_HEADERS`. They may be secrets.
    pub headers: http::HeaderMap,
    /// Whether requests are compressed.
    pub compression: Compression,
    /// Longest one request may take, its retries included: `OTEL_EXPORTER_OTLP_TIMEOUT`, in milliseconds.
    pub timeout: Duration,
    /// Attributes of the resource, `service.name` among them.
    pub resource: Vec<(String, String)>,
    /// How spans are gathered.
    pub batch: Batch,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers carry credentials: their names only.
        f.debug_struct("Export")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("compression", &self.compression)
            .field("timeout", &self.timeout)
            .field("resource", &self.resource)
            .field("batch", &self.batch)
            .finish()
    }
}

/// How the collector is spoken to: `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC. The default when the endpoint's port is 4317, which is assigned to it.
    Grpc,
    /// OTLP/HTTP with protobuf. The default otherwise.
    HttpProtobuf,
}

/// `OTEL_EXPORTER_OTLP_COMPRESSION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: right for a collector on the same node.
    None,
    /// gzip.
    Gzip,
}

/// How spans are gathered: `OTEL_BSP_...`, with OpenTelemetry's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Longest a span waits for others: `OTEL_BSP_SCHEDULE_DELAY`, in milliseconds.
    pub delay: Duration,
    /// Longest one export may take: `OTEL_BSP_EXPORT_TIMEOUT`, in milliseconds.
    pub export_timeout: Duration,
    /// Most spans that wait; more are dropped: `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub queue_spans_max: usize,
    /// Most spans in one request: `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub batch_spans_max: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            export_timeout: Duration::from_secs(30),
            queue_spans_max: 2048,
            batch_spans_max: 512,
        }
    }
}

/// A variable that cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value}: expected {expected}")]
pub struct SettingError {
    /// The variable's name.
    pub variable: &'static str,
    /// Its value; `(hidden)` where it may be a secret.
    pub value: String,
    /// What it should have been.
    pub expected: &'static str,
}

impl Settings {
    /// Reads the variables through `get`. `workload` is the `service.name` of a process that was told none.
    ///
    /// # Errors
    /// Every variable that cannot be obeyed, not only the first.
    pub fn from_env(
        get: impl Fn(&str) -> Option<String>,
        workload: &str,
    ) -> Result<Self, Vec<SettingError>> {
        let mut reader = Reader {
            get: &get,
            errors: Vec::new(),
        };
        let settings = Self {
            sampler: reader.sampler(),
            export: reader.export(workload),
        };
        if reader.errors.is_empty() {
            Ok(settings)
        } else {
            Err(reader.errors)
        }
    }
}

impl Reader<'_> {
    fn sampler(&mut self) -> Sampler {
        const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
        let named = self.text(SAMPLER);
        // The specification's ratio for a sampler that was named without one is 1; ours is for when nothing was said.
        let default = if named.is_some() { 1.0 } else { RATIO_DEFAULT };
        let ratio = Root::Ratio(self.ratio(default));
        let (parent, root) = match named.as_deref() {
            None | Some("parentbased_traceidratio") => (Parent::Obeyed, ratio),
            Some("parentbased_always_on") => (Parent::Obeyed, Root::On),
            Some("parentbased_always_off") => (Parent::Obeyed, Root::Off),
            Some("always_on") => (Parent::Ignored, Root::On),
            Some("always_off") => (Parent::Ignored, Root::Off),
            Some("traceidratio") => (Parent::Ignored, ratio),
            Some(other) => {
                self.refuse(
                    SAMPLER,
                    other,
                    "always_on, always_off, traceidratio, or one of them with parentbased_ before it",
                );
                (Parent::Obeyed, Root::Off)
            }
        };
        Sampler { parent, root }
    }

    fn ratio(&mut self, default: f64) -> f64 {
        const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(value) = self.text(ARGUMENT) else {
            return default;
        };
        match f64::from_str(&value) {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            Ok(_) | Err(_) => {
                self.refuse(ARGUMENT, value, "a ratio from 0 to 1");
                default
            }
        }
    }

    fn export(&mut self, workload: &str) -> Option<Export> {
        let disabled = self.flag("OTEL_SDK_DISABLED");
        let off = match self.text("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => false,
            Some("none") => true,
            Some(other) => {
                self.refuse("OTEL_TRACES_EXPORTER", other, "otlp or none");
                true
            }
        };
        // Everything is read even when nothing is exported: a mistake is reported either way.
        let endpoint = self.endpoint();
        let (headers, compression) = (self.headers(), self.compression());
        let (timeout, batch) = (self.timeout(), self.batch());
        let resource = self.resource(workload);
        let (endpoint, protocol) = endpoint?;
        (!disabled && !off).then_some(Export {
            endpoint,
            protocol,
            headers,
            compression,
            timeout,
            resource,
            batch,
        })
    }

    fn endpoint(&mut self) -> Option<(String, Protocol)> {
        const SIGNAL: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let protocol = self.protocol();
        let (variable, value) = self.first([SIGNAL, "OTEL_EXPORTER_OTLP_ENDPOINT"])?;
        let uri = http::Uri::from_str(&value).ok();
        let uri = uri.filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        let Some(uri) = uri else {
            self.refuse(
                variable,
                value,
                "an http:// URL (TLS to the collector is not supported: send to a collector on the node or in the pod)",
            );
            return None;
        };
        let by_port = if uri.port_u16() == Some(4317) {
            Protocol::Grpc
        } else {
            Protocol::HttpProtobuf
        };
        let protocol = protocol.unwrap_or(by_port);
        let endpoint = match protocol {
            // Only the general variable is a base that the signal's path is appended to.
            Protocol::HttpProtobuf if variable != SIGNAL => {
                format!("{}/v1/traces", value.trim_end_matches('/'))
            }
            Protocol::HttpProtobuf | Protocol::Grpc => value,
        };
        Some((endpoint, protocol))
    }

    fn protocol(&mut self) -> Option<Protocol> {
        let (variable, value) = self.first([
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ])?;
        match value.as_str() {
            "grpc" => Some(Protocol::Grpc),
            "http/protobuf" => Some(Protocol::HttpProtobuf),
            _ => {
                self.refuse(variable, value, "grpc or http/protobuf");
                None
            }
        }
    }

    fn compression(&mut self) -> Compression {
        let named = self.first([
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
        ]);
        match named {
            Some((_, value)) if value == "gzip" => Compression::Gzip,
            Some((variable, value)) if value != "none" => {
                self.refuse(variable, value, "gzip or none");
                Compression::None
            }
            Some(_) | None => Compression::None,
        }
    }

    fn timeout(&mut self) -> Duration {
        let general = self.duration("OTEL_EXPORTER_OTLP_TIMEOUT", Duration::from_secs(10));
        self.duration("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", general)
    }

    fn batch(&mut self) -> Batch {
        let default = Batch::default();
        let queue_spans_max = self.size("OTEL_BSP_MAX_QUEUE_SIZE", default.queue_spans_max);
        let batch_default = default.batch_spans_max.min(queue_spans_max);
        let batch_spans_max = self.size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch_default);
        if batch_spans_max > queue_spans_max {
            self.refuse(
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                batch_spans_max.to_string(),
                "at most OTEL_BSP_MAX_QUEUE_SIZE",
            );
        }
        Batch {
            delay: self.duration("OTEL_BSP_SCHEDULE_DELAY", default.delay),
            export_timeout: self.duration("OTEL_BSP_EXPORT_TIMEOUT", default.export_timeout),
            queue_spans_max,
            batch_spans_max,
        }
    }

    fn headers(&mut self) -> http::HeaderMap {
        let named = self.first([
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "OTEL_EXPORTER_OTLP_HEADERS",
        ]);
        let Some((variable, value)) = named else {
            return http::HeaderMap::new();
        };
        let header = |(name, value): (String, String)| {
            let name = http::HeaderName::from_str(&name.to_lowercase()).ok()?;
            let mut value = http::HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let headers: Option<http::HeaderMap> =
            pairs(&value).and_then(|pairs| pairs.into_iter().map(header).collect());
        headers.unwrap_or_else(|| {
            self.refuse(
                variable,
                "(hidden)",
                "name=value pairs with commas between them",
            );
            http::HeaderMap::new()
        })
    }

    fn resource(&mut self, workload: &str) -> Vec<(String, String)> {
        const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let mut attributes = Vec::new();
        if let Some(value) = self.text(ATTRIBUTES) {
            match pairs(&value) {
                Some(pairs) => attributes = pairs,
                None => self.refuse(
                    ATTRIBUTES,
                    value,
                    "key=value pairs with commas between them",
                ),
            }
        }
        if let Some(name) = self.text("OTEL_SERVICE_NAME") {
            attributes.retain(|(key, _)| key != "service.name");
            attributes.push(("service.name".to_owned(), name));
        } else if !attributes.iter().any(|(key, _)| key == "service.name") {
            attributes.push(("service.name".to_owned(), workload.to_owned()));
        }
        attributes
    }
}

#[cfg(test)]
mod tests;
