//! Traces as Jaeger's query API answers them, by way of the API server.

use serde_json::Value;

use super::kubectl;

/// A span, as much of it as tests look at.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// The workload that exported it.
    pub service: String,
    /// Its id.
    pub id: String,
    /// The span that it is a child of; none for a root.
    pub parent: Option<String>,
    /// Its attributes.
    pub tags: Vec<(String, String)>,
}

impl Span {
    /// An attribute's value.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }
}

/// The traces in which a span of this service has this attribute, each with all its spans.
pub fn traces(service: &str, key: &str, value: &str) -> Vec<Vec<Span>> {
    let tags = format!("%7B%22{key}%22%3A%22{value}%22%7D");
    let path = format!(
        "/api/v1/namespaces/weir-tracing/services/jaeger:16686/proxy/api/traces?service={service}&tags={tags}&limit=20"
    );
    let finished = kubectl(&["get", "--raw", &path]);
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    let found = answer["data"].as_array().cloned().unwrap_or_default();
    found.iter().map(spans).collect()
}

fn spans(trace: &Value) -> Vec<Span> {
    let found = trace["spans"].as_array().cloned().unwrap_or_default();
    found
        .iter()
        .map(|span| read(span, &trace["processes"]))
        .collect()
}

fn read(span: &Value, processes: &Value) -> Span {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let process = span["processID"].as_str().unwrap_or_default();
    let references = span["references"].as_array().cloned().unwrap_or_default();
    let tags = span["tags"].as_array().cloned().unwrap_or_default();
    Span {
        name: text(&span["operationName"]),
        service: text(&processes[process]["serviceName"]),
        id: text(&span["spanID"]),
        parent: references
            .first()
            .map(|reference| text(&reference["spanID"])),
        tags: tags
            .iter()
            .map(|tag| {
                let value = &tag["value"];
                (
                    text(&tag["key"]),
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned),
                )
            })
            .collect(),
    }
}
