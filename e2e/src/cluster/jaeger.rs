//! Traces as Jaeger's query APIs answer them, by way of the API server: the one of its pages, and the stable one.

use serde_json::Value;

use super::kubectl;

/// Names and values, as of attributes.
pub type Tags = Vec<(String, String)>;

/// A span, as much of it as tests look at.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// The workload that exported it.
    pub service: String,
    /// Its id.
    pub id: String,
    /// The trace's id.
    pub trace: String,
    /// The span that it is a child of; none for a root.
    pub parent: Option<String>,
    /// Its attributes.
    pub tags: Tags,
    /// The attributes of what exported it.
    pub resource: Tags,
}

impl Span {
    /// An attribute's value.
    pub fn tag(&self, key: &str) -> Option<&str> {
        find(&self.tags, key)
    }

    /// The value of an attribute of what exported it.
    pub fn resource(&self, key: &str) -> Option<&str> {
        find(&self.resource, key)
    }
}

fn find<'a>(tags: &'a Tags, key: &str) -> Option<&'a str> {
    tags.iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
}

/// The traces in which a span of this service has this attribute, each with all its spans.
pub fn traces(service: &str, key: &str, value: &str) -> Vec<Vec<Span>> {
    let tags = format!("%7B%22{key}%22%3A%22{value}%22%7D");
    let answer = ask(&format!(
        "/api/traces?service={service}&tags={tags}&limit=20"
    ));
    list(&answer["data"]).iter().map(spans).collect()
}

/// The spans of the trace of this id, by the API whose answers are OTLP.
pub fn spans_v3(trace: &str) -> Vec<Span> {
    let answer = ask(&format!("/api/v3/traces/{trace}"));
    let mut found = Vec::new();
    for exported in list(&answer["result"]["resourceSpans"]) {
        let resource = tags(&exported["resource"]["attributes"]);
        for scope in list(&exported["scopeSpans"]) {
            let spans = list(&scope["spans"]);
            found.extend(spans.iter().map(|span| read_v3(span, resource.clone())));
        }
    }
    found
}

/// The services that Jaeger knows, by the same API.
pub fn services_v3() -> Vec<String> {
    let answer = ask("/api/v3/services");
    list(&answer["services"]).iter().map(text).collect()
}

/// What Jaeger answers; null where it does not, or with something else than JSON.
fn ask(path: &str) -> Value {
    let path = format!("/api/v1/namespaces/weir-tracing/services/jaeger:16686/proxy{path}");
    let finished = kubectl(&["get", "--raw", &path]);
    serde_json::from_str(&finished.stdout).unwrap_or_default()
}

fn spans(trace: &Value) -> Vec<Span> {
    list(&trace["spans"])
        .iter()
        .map(|span| read(span, &trace["processes"]))
        .collect()
}

fn read(span: &Value, processes: &Value) -> Span {
    let process = &processes[span["processID"].as_str().unwrap_or_default()];
    let references = list(&span["references"]);
    Span {
        name: text(&span["operationName"]),
        service: text(&process["serviceName"]),
        id: text(&span["spanID"]),
        trace: text(&span["traceID"]),
        parent: references
            .first()
            .map(|reference| text(&reference["spanID"])),
        tags: tags(&span["tags"]),
        resource: tags(&process["tags"]),
    }
}

fn read_v3(span: &Value, resource: Tags) -> Span {
    Span {
        name: text(&span["name"]),
        service: find(&resource, "service.name")
            .unwrap_or_default()
            .to_owned(),
        id: text(&span["spanId"]),
        trace: text(&span["traceId"]),
        parent: span["parentSpanId"]
            .as_str()
            .filter(|id| !id.is_empty())
            .map(str::to_owned),
        tags: tags(&span["attributes"]),
        resource,
    }
}

/// Attributes; those of OTLP have the value's type around it.
fn tags(from: &Value) -> Tags {
    let tag = |tag: &Value| {
        let value = match &tag["value"] {
            Value::Object(typed) => typed.values().next().unwrap_or(&Value::Null),
            plain => plain,
        };
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        (text(&tag["key"]), value)
    };
    list(from).iter().map(tag).collect()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
