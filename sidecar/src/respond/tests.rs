use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use expect_test::{Expect, expect};
use http::Request;
use http_body_util::BodyExt as _;

use super::*;
use crate::call::Context;
use crate::destination::Destinations;
use crate::http::body::BodyError;
use crate::telemetry::Telemetry;

fn addr() -> SocketAddr {
    "10.0.0.7:80".parse().unwrap()
}

fn call(request: http::request::Builder) -> std::sync::Arc<Call> {
    let (mut head, ()) = request
        .uri("http://shop/orders")
        .header("x-request-id", "id-1")
        .body(())
        .unwrap()
        .into_parts();
    let context = Context {
        policy: &control_api::policy::Policy::default(),
        revision: 7,
        destinations: &Destinations::new(1),
        original_destination: addr(),
        telemetry: &Telemetry::default(),
    };
    Call::begin(&mut head, &context)
}

fn http1() -> std::sync::Arc<Call> {
    call(Request::get("/"))
}

fn http2() -> std::sync::Arc<Call> {
    call(Request::get("/").version(http::Version::HTTP_2))
}

fn grpc_call() -> std::sync::Arc<Call> {
    call(
        Request::post("/")
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc+proto"),
    )
}

fn shed(shed: Shed) -> CallError {
    CallError::Shed {
        shed,
        retry_after: Duration::from_millis(1200),
    }
}

fn refused_connection() -> UpstreamError {
    UpstreamError::Connect {
        addr: addr(),
        source: io::ErrorKind::ConnectionRefused.into(),
    }
}

fn reset_stream() -> UpstreamError {
    UpstreamError::Reset {
        addr: addr(),
        reason: Some(h2::Reason::INTERNAL_ERROR),
        detail: "stream error".to_owned(),
    }
}

fn text(response: Response<Body>) -> String {
    let (head, body) = response.into_parts();
    let mut lines = vec![head.status.to_string()];
    for (name, value) in &head.headers {
        lines.push(format!("{name}: {}", value.to_str().unwrap()));
    }
    let collecting = std::pin::pin!(body.collect());
    let body = at_once(collecting);
    lines.push(String::from_utf8(body.to_vec()).unwrap());
    lines.join("\n")
}

/// Our own bodies are there at once.
fn at_once(
    collecting: std::pin::Pin<
        &mut impl Future<Output = Result<http_body_util::Collected<Bytes>, BodyError>>,
    >,
) -> Bytes {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match collecting.poll(&mut cx) {
        std::task::Poll::Ready(collected) => collected.unwrap().to_bytes(),
        std::task::Poll::Pending => panic!("a body of ours had to be waited for"),
    }
}

fn check(error: &CallError, call: &Call, expected: &Expect) {
    expected.assert_eq(&text(with(error, call)));
}

#[test]
fn a_refusal_says_why_when_to_come_back_and_who_decided() {
    check(
        &shed(Shed::QueueFull),
        &http1(),
        &expect![[r#"
            503 Service Unavailable
            content-type: application/problem+json
            content-length: 253
            x-weir-shed: queue_full
            x-weir-retry: 1200
            retry-after: 2
            {"type":"urn:weir:queue_full","title":"weir held this call back","status":503,"detail":"as many calls wait for the destination as may; `weirctl decisions` shows the numbers","destination":"shop:80","route":"defaults","revision":7,"correlationId":"id-1"}"#]],
    );
}

#[test]
fn a_refusal_of_a_grpc_call_is_a_trailers_only_status() {
    check(
        &shed(Shed::QueueTimeout),
        &grpc_call(),
        &expect![[r"
            200 OK
            content-type: application/grpc
            grpc-status: 8
            grpc-message: weir: the call waited for the whole queue timeout without its turn; `weirctl decisions` shows the numbers
            x-weir-shed: queue_timeout
            x-weir-retry: 1200
            grpc-retry-pushback-ms: 1200
        "]],
    );
}

#[test]
fn a_destination_that_cannot_be_reached_is_named_with_what_to_look_at() {
    check(
        &CallError::Upstream(refused_connection()),
        &http1(),
        &expect![[r#"
            502 Bad Gateway
            content-type: application/problem+json
            content-length: 274
            {"type":"urn:weir:connect_failure","title":"The destination did not answer","status":502,"detail":"connecting to 10.0.0.7:80: connection refused; is the upstream's port right and its pod ready?","destination":"shop:80","route":"defaults","revision":7,"correlationId":"id-1"}"#]],
    );
}

#[test]
fn the_text_of_a_grpc_failure_is_percent_encoded() {
    let error = UpstreamError::Malformed {
        addr: addr(),
        detail: "100 %\n".to_owned(),
    };
    check(
        &CallError::Upstream(error),
        &grpc_call(),
        &expect![[r"
        200 OK
        content-type: application/grpc
        grpc-status: 13
        grpc-message: weir: 10.0.0.7:80 sent a malformed response: 100 %25%0A
    "]],
    );
}

#[test]
fn a_failure_whose_retry_the_budget_refused_tells_callers_not_to_retry() {
    for call in [http1(), grpc_call()] {
        let exhausted = with(&CallError::Exhausted(refused_connection()), &call);
        assert_eq!(exhausted.headers()["x-weir-retry"], "exhausted");
        let failed = with(&CallError::Upstream(refused_connection()), &call);
        assert!(!failed.headers().contains_key("x-weir-retry"));
    }
}

#[test]
fn a_head_request_gets_the_headers_and_no_body() {
    let error = shed(Shed::QueueFull);
    let (get, head) = (http1(), call(Request::head("/")));
    let (get, head) = (with(&error, &get), with(&error, &head));
    assert_eq!(get.headers(), head.headers());
    assert!(matches!(head.body(), Body::Empty));
}

#[test]
fn a_reset_stream_is_a_reset_for_who_speaks_http2_and_a_502_for_who_does_not() {
    let error = CallError::Upstream(reset_stream());
    for call in [http2(), grpc_call()] {
        let reset = with(&error, &call).extensions().get().copied();
        assert_eq!(reset, Some(ResetStream(h2::Reason::INTERNAL_ERROR)));
    }
    let answer = with(&error, &http1());
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(answer.extensions().get::<ResetStream>().is_none());
}

#[test]
fn every_error_has_its_statuses_and_its_word() {
    let (addr, after) = (addr(), Duration::from_secs(1));
    let upstream = [
        refused_connection(),
        UpstreamError::ConnectTimeout { addr, after },
        UpstreamError::NotSent { addr },
        UpstreamError::RefusedStream { addr },
        UpstreamError::GoAway { addr },
        reset_stream(),
        UpstreamError::AttemptTimeout { addr, after },
        UpstreamError::Malformed {
            addr,
            detail: String::new(),
        },
        UpstreamError::RequestBody(BodyError::Superseded),
    ];
    let errors = upstream
        .into_iter()
        .map(CallError::Upstream)
        .chain(Shed::ALL.map(shed))
        .chain([CallError::DeadlineExceeded { deadline: after }]);
    let lines: Vec<String> = errors
        .map(|error| {
            let facts = facts(&error);
            format!(
                "{} {} {:?} {}",
                facts.status.as_u16(),
                facts.grpc_status,
                facts.outcome,
                facts.kind
            )
        })
        .collect();
    expect![[r"
        502 14 Unreachable connect_failure
        504 14 Unreachable connect_timeout
        502 14 Unreachable not_sent
        502 14 Unreachable refused_stream
        502 14 Unreachable go_away
        502 14 Unreachable reset
        504 4 TimedOut attempt_timeout
        502 13 Unreachable malformed_response
        400 1 Cancelled request_body
        503 8 Shed queue_full
        503 8 Shed queue_timeout
        503 8 Shed queue_standing
        503 8 Shed displaced
        503 4 Shed deadline_unreachable
        503 14 Shed ejected
        503 14 Shed memory
        504 4 TimedOut deadline_exceeded"]]
    .assert_eq(&lines.join("\n"));
}
