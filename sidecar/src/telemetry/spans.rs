//! Turns a finished call into spans.
//!
//! ```text
//! INTERNAL "call GET"                    the whole call; sheds, retries, backoff as events
//! ├─ INTERNAL "queue"                    an attempt that waited
//! └─ CLIENT "GET"                        an attempt that was sent; its id is what the upstream saw
//! ```
//!
//! Attribute names are OpenTelemetry's where it has one (HTTP and RPC semantic conventions), `weir.` before our own.
//! Neither query nor header values become attributes.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::kept::KeptCall;
use super::record::{AttemptEnd, AttemptRecord, CallRecord, Decision, Outcome, Protocol, Sampling};

/// Waits shorter than this are no wait: the clock was read twice and a permit was free.
const QUEUE_SPAN_MIN: Duration = Duration::from_micros(500);

/// Appends the spans of a call to `spans`, the call's own first.
pub fn append(call: &KeptCall, scope: &InstrumentationScope, spans: &mut Vec<SpanData>) {
    let maker = Maker { call, scope };
    spans.push(maker.call_span());
    for (resend, attempt) in call.record.attempts.iter().enumerate() {
        let resend = i64::try_from(resend).unwrap_or(i64::MAX);
        spans.extend(maker.queue_span(attempt, resend));
        spans.extend(maker.attempt_span(attempt, resend));
    }
}

/// How many spans [`append`] makes at most: what a queue's bound counts.
#[must_use]
pub fn count(record: &CallRecord) -> usize {
    let of_attempt = |attempt: &AttemptRecord| {
        usize::from(waited(attempt).is_some()) + usize::from(attempt.dispatched.is_some())
    };
    1 + record.attempts.iter().map(of_attempt).sum::<usize>()
}

/// When an attempt's wait ended, if it is worth a span.
fn waited(attempt: &AttemptRecord) -> Option<Duration> {
    let until = attempt.dispatched.unwrap_or(attempt.ended);
    (attempt.queued() >= QUEUE_SPAN_MIN).then_some(until)
}

struct Maker<'a> {
    call: &'a KeptCall,
    scope: &'a InstrumentationScope,
}

/// What tells one span of a call from the others.
struct Part {
    id: SpanId,
    kind: SpanKind,
    name: Cow<'static, str>,
    from: Duration,
    to: Duration,
    attributes: Vec<KeyValue>,
    events: Vec<Event>,
    status: Status,
}

impl Maker<'_> {
    fn record(&self) -> &CallRecord {
        &self.call.record
    }

    fn at(&self, since_begin: Duration) -> SystemTime {
        self.record()
            .began
            .checked_add(since_begin)
            .unwrap_or(self.record().began)
    }

    fn span(&self, part: Part, parent: SpanId, parent_span_is_remote: bool) -> SpanData {
        let flags = match self.record().sampling {
            Sampling::Sampled => TraceFlags::SAMPLED,
            // What went upstream with the ids: the trace is incomplete below us.
            Sampling::PassedOver | Sampling::CallerDeclined => TraceFlags::default(),
        };
        let mut events = SpanEvents::default();
        events.events = part.events;
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(self.record().trace_id),
                part.id,
                flags,
                false,
                TraceState::default(),
            ),
            parent_span_id: parent,
            parent_span_is_remote,
            span_kind: part.kind,
            name: part.name,
            start_time: self.at(part.from),
            end_time: self.at(part.to.max(part.from)),
            attributes: part.attributes,
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status: part.status,
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn call_span(&self) -> SpanData {
        let record = self.record();
        let mut attributes = self.common();
        attributes.extend([
            text("weir.correlation_id", self.call.correlation_id.to_string()),
            text("weir.route", record.route.to_string()),
            KeyValue::new("weir.policy.revision", signed(record.revision)),
            text("weir.outcome", record.outcome.as_str()),
        ]);
        attributes.extend(statuses(record.status, record.grpc_status));
        let error = self.error_type();
        attributes.extend(error.clone().map(|kind| text("error.type", kind)));
        let part = Part {
            id: SpanId::from_bytes(record.span_id),
            kind: SpanKind::Internal,
            name: Cow::Owned(format!("call {}", self.operation())),
            from: Duration::ZERO,
            to: record.duration,
            attributes,
            events: self.events(),
            status: error.map_or(Status::Unset, Status::error),
        };
        let parent = record
            .parent_span_id
            .map_or(SpanId::INVALID, SpanId::from_bytes);
        self.span(part, parent, record.parent_span_id.is_some())
    }

    fn queue_span(&self, attempt: &AttemptRecord, resend: i64) -> Option<SpanData> {
        let until = waited(attempt)?;
        let mut attributes = vec![text("server.address", self.server().0.to_owned())];
        attributes.extend(resend_count(resend));
        let status = match attempt.end {
            AttemptEnd::Shed(shed) if attempt.dispatched.is_none() => {
                attributes.push(text("weir.shed.reason", shed.reason()));
                Status::error(shed.reason())
            }
            AttemptEnd::Shed(_)
            | AttemptEnd::Response { .. }
            | AttemptEnd::Failed(_)
            | AttemptEnd::Cancelled => Status::Unset,
        };
        let part = Part {
            id: SpanId::from_bytes(fastrand::u64(1..).to_be_bytes()),
            kind: SpanKind::Internal,
            name: Cow::Borrowed("queue"),
            from: attempt.asked,
            to: until,
            attributes,
            events: Vec::new(),
            status,
        };
        Some(self.child(part))
    }

    fn attempt_span(&self, attempt: &AttemptRecord, resend: i64) -> Option<SpanData> {
        let record = self.record();
        let dispatched = attempt.dispatched?;
        let mut attributes = self.common();
        attributes.extend([
            text("network.peer.address", record.endpoint.ip().to_string()),
            KeyValue::new("network.peer.port", i64::from(record.endpoint.port())),
            text(
                "network.protocol.version",
                protocol_version(record.protocol),
            ),
        ]);
        attributes.extend(resend_count(resend));
        let error = match &attempt.end {
            AttemptEnd::Response {
                status,
                grpc_status,
            } => {
                attributes.extend(statuses(*status, *grpc_status));
                response_error(*status, *grpc_status)
            }
            AttemptEnd::Failed(kind) => Some(Cow::Borrowed(*kind)),
            AttemptEnd::Shed(shed) => Some(Cow::Borrowed(shed.reason())),
            AttemptEnd::Cancelled => Some(Cow::Borrowed("cancelled")),
        };
        attributes.extend(error.clone().map(|kind| text("error.type", kind)));
        let part = Part {
            id: SpanId::from_bytes(attempt.span_id),
            kind: SpanKind::Client,
            name: self.operation(),
            from: dispatched,
            to: attempt.ended,
            attributes,
            events: Vec::new(),
            status: error.map_or(Status::Unset, Status::error),
        };
        Some(self.child(part))
    }

    fn child(&self, part: Part) -> SpanData {
        self.span(part, SpanId::from_bytes(self.record().span_id), false)
    }

    /// What call and attempt spans have in common.
    fn common(&self) -> Vec<KeyValue> {
        let (host, port) = self.server();
        let mut attributes = Vec::with_capacity(14);
        attributes.extend([
            text("http.request.method", self.call.method),
            text("url.path", self.call.path.to_string()),
            text("server.address", host.to_owned()),
        ]);
        attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        if let Some((service, method)) = self.grpc_method() {
            attributes.extend([
                text("rpc.system", "grpc"),
                text("rpc.service", service.to_owned()),
                text("rpc.method", method.to_owned()),
            ]);
        }
        attributes
    }

    /// The span's name: a gRPC method is a closed set, an HTTP path is not.
    fn operation(&self) -> Cow<'static, str> {
        match self.grpc_method() {
            Some((service, method)) => Cow::Owned(format!("{service}/{method}")),
            None if self.call.method == "_OTHER" => Cow::Borrowed("HTTP"),
            None => Cow::Borrowed(self.call.method),
        }
    }

    fn grpc_method(&self) -> Option<(&str, &str)> {
        let is_grpc = self.record().protocol == Protocol::Grpc;
        let path = self.call.path.strip_prefix('/').filter(|_| is_grpc)?;
        path.split_once('/')
    }

    /// The destination's host without brackets, and its port.
    fn server(&self) -> (&str, Option<u16>) {
        let name = &self.record().destination;
        let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
        (
            host.trim_start_matches('[').trim_end_matches(']'),
            port.parse().ok(),
        )
    }

    /// What the call ended by, where it ended badly: never a free text.
    fn error_type(&self) -> Option<Cow<'static, str>> {
        let record = self.record();
        let kind = Some(record.error_kind).filter(|kind| !kind.is_empty());
        match record.outcome {
            Outcome::Answered => None,
            // The destination's own word says more than ours, unless it said that all is well and then broke off.
            Outcome::Failed => {
                response_error(record.status, record.grpc_status).or(kind.map(Cow::Borrowed))
            }
            Outcome::Cancelled => Some(Cow::Borrowed("cancelled")),
            Outcome::Unreachable | Outcome::Shed | Outcome::TimedOut => {
                Some(Cow::Borrowed(kind.unwrap_or(record.outcome.as_str())))
            }
        }
    }

    /// Decisions and backoffs, in the order of their times.
    fn events(&self) -> Vec<Event> {
        let record = self.record();
        let decisions = record
            .decisions
            .iter()
            .map(|decision| self.decision_event(decision));
        let backoffs = record
            .attempts
            .iter()
            .filter(|attempt| !attempt.backoff.is_zero());
        let backoffs = backoffs.map(|attempt| {
            let millis = attempt.backoff.as_secs_f64() * 1e3;
            Event::new(
                "weir.backoff",
                self.at(attempt.asked.saturating_sub(attempt.backoff)),
                vec![KeyValue::new("weir.backoff_ms", millis)],
                0,
            )
        });
        let mut events: Vec<_> = decisions.chain(backoffs).collect();
        events.sort_by_key(|event| event.timestamp);
        events
    }

    fn decision_event(&self, decision: &Decision) -> Event {
        let mut attributes = vec![text("weir.reason", decision.reason)];
        let inputs = decision.inputs.iter();
        attributes
            .extend(inputs.map(|(name, value)| KeyValue::new(format!("weir.{name}"), *value)));
        let name = format!("weir.{}", decision.what.as_str());
        Event::new(name, self.at(decision.at), attributes, 0)
    }
}

fn text(key: &'static str, value: impl Into<Value>) -> KeyValue {
    KeyValue::new(key, value)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The conventions want it from the first resend on.
fn resend_count(resend: i64) -> Option<KeyValue> {
    (resend > 0).then(|| KeyValue::new("http.request.resend_count", resend))
}

/// Status attributes; a status of 0 was never sent.
fn statuses(status: u16, grpc_status: Option<u16>) -> impl Iterator<Item = KeyValue> {
    let http = (status > 0).then(|| KeyValue::new("http.response.status_code", i64::from(status)));
    let grpc = grpc_status.map(|code| KeyValue::new("rpc.grpc.status_code", i64::from(code)));
    http.into_iter().chain(grpc)
}

/// What makes a response an error for a client: a status of 400 or above, or any gRPC status but OK.
fn response_error(status: u16, grpc_status: Option<u16>) -> Option<Cow<'static, str>> {
    match grpc_status {
        Some(code) if code > 0 => Some(Cow::Owned(format!("grpc_{code}"))),
        Some(_) | None if status >= 400 => Some(Cow::Owned(status.to_string())),
        Some(_) | None => None,
    }
}

fn protocol_version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "1.1",
        Protocol::Http2 | Protocol::Grpc => "2",
    }
}

#[cfg(test)]
mod tests;
