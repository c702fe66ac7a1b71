//! Spans as flat JSON: what a test wants to look at.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Map, Value, json};

/// Every span of an export, with its resource's attributes beside it.
pub(crate) fn flatten(request: ExportTraceServiceRequest) -> Vec<Value> {
    let mut all = Vec::new();
    for group in request.resource_spans {
        let resource = attributes(&group.resource.unwrap_or_default().attributes);
        for scope in group.scope_spans {
            all.extend(scope.spans.iter().map(|span| flat(span, &resource)));
        }
    }
    all
}

fn flat(span: &Span, resource: &Value) -> Value {
    let events: Vec<Value> = span
        .events
        .iter()
        .map(|event| {
            json!({"name": event.name, "at_ns": event.time_unix_nano, "attributes": attributes(&event.attributes)})
        })
        .collect();
    let status = span.status.clone().unwrap_or_default();
    json!({
        "name": span.name,
        "trace_id": hex(&span.trace_id),
        "span_id": hex(&span.span_id),
        "parent_id": hex(&span.parent_span_id),
        "kind": span.kind().as_str_name(),
        "state": span.trace_state,
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
        "attributes": attributes(&span.attributes),
        "events": events,
        "status": status.code().as_str_name(),
        "status_message": status.message,
        "resource": resource,
    })
}

fn attributes(pairs: &[KeyValue]) -> Value {
    let map: Map<String, Value> = pairs
        .iter()
        .map(|pair| {
            (
                pair.key.clone(),
                pair.value.as_ref().map_or(Value::Null, value),
            )
        })
        .collect();
    Value::Object(map)
}

fn value(any: &AnyValue) -> Value {
    match &any.value {
        Some(Any::StringValue(text)) => text.clone().into(),
        Some(Any::BoolValue(flag)) => (*flag).into(),
        Some(Any::IntValue(number)) => (*number).into(),
        Some(Any::DoubleValue(number)) => (*number).into(),
        Some(Any::ArrayValue(list)) => list.values.iter().map(value).collect(),
        Some(Any::BytesValue(bytes)) => hex(bytes).into(),
        _ => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
