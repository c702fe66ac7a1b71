//! Turns an error into the response that the application gets, well formed for HTTP and for gRPC.
//!
//! Everything that follows from an error is decided in [`facts`], one arm a variant, so that a new variant does not
//! compile until it is decided.

use std::time::Duration;

use control_api::well_known::header;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::call::Call;
use crate::error::{CallError, Shed, UpstreamError};
use crate::http::body::Body;
use crate::telemetry::record::{Outcome, Protocol};

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The HTTP status of the response.
    pub status: StatusCode,
    /// The gRPC status of the response (grpc.io, "Status codes").
    pub grpc_status: u16,
    /// How the call ended.
    pub outcome: Outcome,
    /// A word from a closed set: `error.type` of the span, `type` of the problem body.
    pub kind: &'static str,
}

/// What follows from an error.
#[must_use]
pub fn facts(error: &CallError) -> Facts {
    let (status, grpc_status, outcome, kind) = match error {
        CallError::Shed { shed, .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            grpc_shed(*shed),
            Outcome::Shed,
            shed.reason(),
        ),
        CallError::DeadlineExceeded { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            DEADLINE_EXCEEDED,
            Outcome::TimedOut,
            "deadline_exceeded",
        ),
        CallError::Upstream(error) | CallError::Exhausted(error) => {
            let (status, grpc_status, outcome) = match error {
                UpstreamError::ConnectTimeout { .. } => (
                    StatusCode::GATEWAY_TIMEOUT,
                    UNAVAILABLE,
                    Outcome::Unreachable,
                ),
                UpstreamError::AttemptTimeout { .. } => (
                    StatusCode::GATEWAY_TIMEOUT,
                    DEADLINE_EXCEEDED,
                    Outcome::TimedOut,
                ),
                UpstreamError::Malformed { .. } => {
                    (StatusCode::BAD_GATEWAY, INTERNAL, Outcome::Unreachable)
                }
                UpstreamError::RequestBody(_) => {
                    (StatusCode::BAD_REQUEST, CANCELLED, Outcome::Cancelled)
                }
                UpstreamError::Connect { .. }
                | UpstreamError::NotSent { .. }
                | UpstreamError::RefusedStream { .. }
                | UpstreamError::GoAway { .. }
                | UpstreamError::Reset { .. } => {
                    (StatusCode::BAD_GATEWAY, UNAVAILABLE, Outcome::Unreachable)
                }
            };
            (status, grpc_status, outcome, error.kind())
        }
    };
    Facts {
        status,
        grpc_status,
        outcome,
        kind,
    }
}

/// A shed call was not processed, so `UNAVAILABLE` is true; where the destination itself is full, `RESOURCE_EXHAUSTED`
/// says that a retry elsewhere will not help.
fn grpc_shed(shed: Shed) -> u16 {
    match shed {
        Shed::QueueFull | Shed::QueueTimeout | Shed::QueueStanding | Shed::Displaced => {
            RESOURCE_EXHAUSTED
        }
        Shed::DeadlineUnreachable => DEADLINE_EXCEEDED,
        Shed::Ejected | Shed::Memory => UNAVAILABLE,
    }
}

/// The response for a call that failed with `error`.
#[must_use]
pub fn with(error: &CallError, call: &Call) -> Response<Body> {
    let facts = facts(error);
    let mut response = match (call.protocol, reset_reason(error)) {
        (Protocol::Http2 | Protocol::Grpc, Some(reason)) => reset(reason),
        (Protocol::Grpc, None) => grpc(&facts, error),
        (Protocol::Http1 | Protocol::Http2, _) => problem(&facts, error, call),
    };
    match error {
        CallError::Shed { shed, retry_after } => {
            mark_shed(&mut response, *shed, *retry_after, call.protocol);
        }
        CallError::Exhausted(_) => mark_exhausted(&mut response),
        CallError::Upstream(_) | CallError::DeadlineExceeded { .. } => {}
    }
    response
}

/// The answer to a stream that the server reset: the same reset, since the application speaks HTTP/2 too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetStream(pub h2::Reason);

fn reset_reason(error: &CallError) -> Option<h2::Reason> {
    let (CallError::Upstream(error) | CallError::Exhausted(error)) = error else {
        return None;
    };
    match error {
        UpstreamError::Reset { reason, .. } => *reason,
        UpstreamError::RefusedStream { .. } => Some(h2::Reason::REFUSED_STREAM),
        UpstreamError::Connect { .. }
        | UpstreamError::ConnectTimeout { .. }
        | UpstreamError::NotSent { .. }
        | UpstreamError::GoAway { .. }
        | UpstreamError::AttemptTimeout { .. }
        | UpstreamError::Malformed { .. }
        | UpstreamError::RequestBody(_) => None,
    }
}

fn reset(reason: h2::Reason) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.extensions_mut().insert(ResetStream(reason));
    response
}

/// gRPC over HTTP/2, "Trailers-Only": the status is in the only header block, and the HTTP status is 200.
fn grpc(facts: &Facts, error: &CallError) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(facts.grpc_status));
    let message = percent_encode(&format!("weir: {error}"));
    headers.insert(
        GRPC_MESSAGE,
        HeaderValue::try_from(message).unwrap_or_else(|_| HeaderValue::from_static("weir")),
    );
    response
}

/// RFC 9457.
fn problem(facts: &Facts, error: &CallError, call: &Call) -> Response<Body> {
    let body = serde_json::json!({
        "type": format!("urn:weir:{}", facts.kind),
        "title": title(error),
        "status": facts.status.as_u16(),
        "detail": error.to_string(),
        "destination": &*call.destination.name,
        "route": &*call.rule.name,
        "revision": call.revision,
        "correlationId": call.correlation_id.to_str().unwrap_or_default(),
    })
    .to_string();
    let length = HeaderValue::from(body.len());
    // A response to HEAD has the headers of a GET's, and no body (RFC 9110 §9.3.2).
    let body = if call.method == Method::HEAD {
        Body::Empty
    } else {
        Body::full(body)
    };
    let mut response = Response::new(body);
    *response.status_mut() = facts.status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response
        .headers_mut()
        .insert(http::header::CONTENT_LENGTH, length);
    response
}

fn title(error: &CallError) -> &'static str {
    match error {
        CallError::Shed { .. } => "weir held this call back",
        CallError::DeadlineExceeded { .. } => "The call ran out of time",
        CallError::Upstream(error) | CallError::Exhausted(error) => match error {
            UpstreamError::AttemptTimeout { .. } => "The call ran out of time",
            UpstreamError::RequestBody(_) => "The request's body ended early",
            UpstreamError::Connect { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::NotSent { .. }
            | UpstreamError::RefusedStream { .. }
            | UpstreamError::GoAway { .. }
            | UpstreamError::Reset { .. }
            | UpstreamError::Malformed { .. } => "The destination did not answer",
        },
    }
}

fn mark_shed(response: &mut Response<Body>, shed: Shed, retry_after: Duration, protocol: Protocol) {
    let millis = HeaderValue::from(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX));
    let headers = response.headers_mut();
    headers.insert(SHED, HeaderValue::from_static(shed.reason()));
    headers.insert(RETRY, millis.clone());
    match protocol {
        Protocol::Grpc => headers.insert(GRPC_RETRY_PUSHBACK_MS, millis),
        // Whole seconds (RFC 9110 §10.2.3), rounded up: never earlier than we mean.
        Protocol::Http1 | Protocol::Http2 => {
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
        }
    };
}

/// Marks a failure whose retry the budget refused, so that nobody above retries either.
pub fn mark_exhausted<B>(response: &mut Response<B>) {
    response
        .headers_mut()
        .insert(RETRY, HeaderValue::from_static("exhausted"));
}

/// The gRPC status in a response head or in trailers.
#[must_use]
pub fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(&GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// gRPC over HTTP/2, `Percent-Encoded`: printable ASCII but `%` stands for itself.
fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else if write!(encoded, "%{byte:02X}").is_err() {
            break;
        }
    }
    encoded
}

const CANCELLED: u16 = 1;
const DEADLINE_EXCEEDED: u16 = 4;
const RESOURCE_EXHAUSTED: u16 = 8;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;

/// `x-weir-retry`.
pub const RETRY: HeaderName = HeaderName::from_static(header::RETRY);
const SHED: HeaderName = HeaderName::from_static(header::SHED);
const GRPC_STATUS: HeaderName = HeaderName::from_static(header::GRPC_STATUS);
const GRPC_MESSAGE: HeaderName = HeaderName::from_static(header::GRPC_MESSAGE);
const GRPC_RETRY_PUSHBACK_MS: HeaderName = HeaderName::from_static(header::GRPC_RETRY_PUSHBACK_MS);

#[cfg(test)]
mod tests;
