//! Decides what a call gets, whatever protocol it came by.
//!
//! Paths: `/_origin/stats`, `/_origin/calls`, `/_origin/reset` (for the test, neither counted nor slow); `/echo` (the
//! request as JSON), `/mirror` (body and trailers streamed back), `/bytes/N`, `/chunked/N`, `/head/N` (a header of so many
//! bytes), `/trailers`, `/trailers/N`, `/status/N`, `/delay/MS`; anything else is `ok`. A gRPC request gets its message back
//! with status 0.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::ledger;
use crate::reply::{Answer, Body, Reply};
use crate::{Failure, Origin};

/// Answers the control paths. None: it is a call like any other.
pub(crate) fn control(origin: &Origin, head: &http::request::Parts) -> Option<Reply> {
    match head.uri.path() {
        "/_origin/stats" => Some(Reply::json(&origin.ledger.stats())),
        "/_origin/calls" => Some(Reply::json(&origin.ledger.records())),
        "/_origin/reset" => {
            origin.ledger.reset();
            Some(Reply::json(&json!({})))
        }
        _ => None,
    }
}

/// Whether the body is to be streamed back rather than read first.
pub(crate) fn is_mirror(head: &http::request::Parts) -> bool {
    head.uri.path() == "/mirror"
}

/// Works on a call and answers it.
pub(crate) async fn answer(
    origin: &Rc<Origin>,
    head: &http::request::Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
) -> Answer {
    let number = origin.ledger.arrived(head, &body);
    let worker = Rc::clone(origin);
    // Its own task: it goes on when the caller is gone.
    let work = tokio::task::spawn_local(async move { work(&worker).await });
    drop(work.await);
    let knobs = &origin.knobs;
    let by_chance = knobs.fail_share > 0.0 && origin.random.borrow_mut().f64() < knobs.fail_share;
    if by_chance || (number > 0 && number <= knobs.fail_first) {
        origin.ledger.failed();
        return fail(origin);
    }
    Answer::Reply(Box::new(succeed(head, body, trailers).await))
}

async fn work(origin: &Origin) {
    let Ok(_slot) = origin.slots.acquire().await else {
        return;
    };
    origin.ledger.begin();
    let mut millis = origin.knobs.service_ms;
    if origin.knobs.exponential {
        millis *= -(1.0 - origin.random.borrow_mut().f64()).ln();
    }
    if millis > 0.0 {
        tokio::time::sleep(Duration::from_secs_f64(millis / 1000.0)).await;
    }
    origin.ledger.end();
}

fn fail(origin: &Origin) -> Answer {
    let mut reply = match origin.knobs.fail_how {
        Failure::Unavailable => Reply::text(StatusCode::SERVICE_UNAVAILABLE, "failed on purpose"),
        Failure::Internal => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "failed on purpose"),
        Failure::GrpcUnavailable => {
            let mut reply = Reply::text(StatusCode::OK, "");
            reply
                .headers
                .insert("content-type", HeaderValue::from_static("application/grpc"));
            reply
                .headers
                .insert("grpc-status", HeaderValue::from_static("14"));
            reply.headers.insert(
                "grpc-message",
                HeaderValue::from_static("failed on purpose"),
            );
            reply
        }
        Failure::Cut => Reply {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Body::cut(),
        },
        Failure::Reset => return Answer::Reset,
        Failure::Refused => return Answer::Refused,
        Failure::Hang => return Answer::Hang,
    };
    for line in &origin.knobs.fail_header {
        let (name, value) = line
            .split_once(':')
            .expect("--fail-header is `name: value`");
        let name = HeaderName::try_from(name.trim()).expect("--fail-header has a name");
        reply.headers.append(
            name,
            HeaderValue::try_from(value.trim()).expect("--fail-header has a value"),
        );
    }
    Answer::Reply(Box::new(reply))
}

async fn succeed(head: &http::request::Parts, body: Bytes, trailers: Option<HeaderMap>) -> Reply {
    if head
        .headers
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
    {
        return grpc(head, body);
    }
    let path = head.uri.path();
    let (verb, number) = path.rsplit_once('/').unwrap_or((path, ""));
    let number: u64 = number.parse().unwrap_or(0);
    match verb {
        "/bytes" => Reply {
            body: Body::made_up(number, true),
            ..Reply::text(StatusCode::OK, "")
        },
        "/chunked" => Reply {
            body: Body::made_up(number, false),
            ..Reply::text(StatusCode::OK, "")
        },
        "/status" => {
            let status = u16::try_from(number)
                .ok()
                .and_then(|number| StatusCode::from_u16(number).ok());
            let status = status.unwrap_or(StatusCode::BAD_REQUEST);
            let text = if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
                ""
            } else {
                "ok"
            };
            Reply::text(status, text)
        }
        "/delay" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            Reply::text(StatusCode::OK, "ok")
        }
        _ if path == "/echo" => Reply::json(&describe(head, &body, trailers.as_ref())),
        "/head" => {
            let mut reply = Reply::text(StatusCode::OK, "ok");
            reply.headers.insert("x-big", made_up(number));
            reply
        }
        "/trailers" => with_trailer(made_up(number)),
        _ if path == "/trailers" => with_trailer(HeaderValue::from_static("abc")),
        _ => Reply::text(StatusCode::OK, "ok"),
    }
}

/// A value of so many bytes.
fn made_up(count: u64) -> HeaderValue {
    let value = "w".repeat(count as usize);
    HeaderValue::try_from(value).expect("letters are a value")
}

fn with_trailer(checksum: HeaderValue) -> Reply {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", checksum);
    let mut reply = Reply::text(StatusCode::OK, "ok");
    reply
        .headers
        .insert("trailer", HeaderValue::from_static("x-checksum"));
    reply.body = Body::full("ok").with_trailers(trailers);
    reply
}

fn grpc(head: &http::request::Parts, body: Bytes) -> Reply {
    let status = head
        .headers
        .get("x-e2e-grpc-status")
        .cloned()
        .unwrap_or(HeaderValue::from_static("0"));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status);
    let mut reply = Reply::text(StatusCode::OK, "");
    reply
        .headers
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    reply.body = Body::full(body).with_trailers(trailers);
    reply
}

fn describe(head: &http::request::Parts, body: &[u8], trailers: Option<&HeaderMap>) -> Value {
    json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "version": format!("{:?}", head.version),
        "headers": pairs(&head.headers),
        "body_bytes": body.len(),
        "body_hash": ledger::hash(body),
        "trailers": trailers.map(pairs),
    })
}

fn pairs(headers: &HeaderMap) -> Value {
    headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect()
}
