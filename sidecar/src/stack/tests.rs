//! The whole stack over an upstream that does as each test says, on a paused clock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use control_api::document::Document;
use control_api::view::DecisionFilter;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Service as _, service_fn};

use super::{ResponseBody, over};
use crate::call::{Call, Context, Outgoing};
use crate::destination::{Destination, Destinations};
use crate::error::{CallError, Shed, UpstreamError};
use crate::http::body::Body;
use crate::http::replay::ByteBudget;
use crate::memory::Memory;
use crate::telemetry::Telemetry;
use crate::telemetry::record::Outcome;
use crate::upstream::Exchange;

/// What the upstream does with an attempt.
enum Does {
    Answers(Response<Body>),
    Fails(UpstreamError),
    Hangs,
}

#[derive(Debug)]
struct Sent {
    head: HeaderMap,
    body: Bytes,
    at: Instant,
}

struct Rig {
    policy: Document,
    destinations: Destinations,
    memory: Arc<Memory>,
    telemetry: Telemetry,
    script: Arc<Mutex<VecDeque<Does>>>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Rig {
    fn new(policy: &str, script: impl IntoIterator<Item = Does>) -> Self {
        let memory = Arc::<Memory>::default();
        Self {
            policy: Document::parse(&format!("version: weir/v1\n{policy}")).unwrap(),
            destinations: Destinations::new(16).within(Arc::clone(&memory)),
            memory,
            telemetry: Telemetry::default(),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            sent: Arc::default(),
        }
    }

    async fn call(&self, request: Request<Body>) -> Result<Response<ResponseBody>, CallError> {
        let (script, sent) = (Arc::clone(&self.script), Arc::clone(&self.sent));
        let upstream = service_fn(move |(addr, request): Exchange| {
            let (script, sent) = (Arc::clone(&script), Arc::clone(&sent));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map_err(UpstreamError::RequestBody)?;
                let seen = Sent {
                    head: head.headers,
                    body: body.to_bytes(),
                    at: Instant::now(),
                };
                sent.lock().unwrap().push(seen);
                let does = script.lock().unwrap().pop_front();
                match does {
                    Some(Does::Answers(response)) => Ok(response),
                    Some(Does::Fails(error)) => Err(error),
                    Some(Does::Hangs) => std::future::pending().await,
                    None => Err(UpstreamError::NotSent { addr }),
                }
            }
        });
        let (mut head, body) = request.into_parts();
        let policy = self.policy.compile();
        let context = Context {
            policy: &policy,
            revision: 1,
            destinations: &self.destinations,
            original_destination: "10.0.0.7:80".parse().unwrap(),
            telemetry: &self.telemetry,
        };
        let call = Call::begin(&mut head, &context);
        let outgoing = Outgoing {
            began: call.begun,
            call,
            head,
            body,
            attempt: 0,
            span_id: [0; 8],
        };
        let kept = Arc::new(ByteBudget::new(1 << 20));
        over(upstream, self.telemetry.clone(), kept)
            .call(outgoing)
            .await
    }

    fn destination(&self) -> Arc<Destination> {
        self.destinations.all().into_iter().next().unwrap()
    }

    fn attempts(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    /// Calls that ended so: what a scrape and the control API say of it is the same.
    fn ended(&self, outcome: Outcome) -> u64 {
        let destination = self.destination();
        let scraped = destination.metrics(&self.telemetry).calls_ended(outcome);
        let shown = destination.view(Instant::now()).outcomes;
        assert_eq!(shown.get(outcome.as_str()).copied().unwrap_or(0), scraped);
        scraped
    }

    fn reasons(&self) -> Vec<String> {
        let decisions = self
            .telemetry
            .decisions()
            .answer(&DecisionFilter::default());
        decisions
            .iter()
            .map(|decision| format!("{} {}", decision.what, decision.reason))
            .collect()
    }
}

fn get() -> Request<Body> {
    Request::builder()
        .uri("http://shop/orders")
        .body(Body::Empty)
        .unwrap()
}

fn post(body: &'static str) -> Request<Body> {
    Request::builder()
        .method("POST")
        .uri("http://shop/orders")
        .body(Body::full(body))
        .unwrap()
}

fn status(status: u16) -> Does {
    with_header(status, "server", "test")
}

fn with_header(status: u16, name: &str, value: &str) -> Does {
    Does::Answers(
        Response::builder()
            .status(status)
            .header(name, value)
            .body(Body::full("text"))
            .unwrap(),
    )
}

fn refused() -> Does {
    let source = std::io::ErrorKind::ConnectionRefused.into();
    Does::Fails(UpstreamError::Connect {
        addr: "10.0.0.7:80".parse().unwrap(),
        source,
    })
}

fn reset() -> Does {
    let detail = "connection closed".to_owned();
    Does::Fails(UpstreamError::Reset {
        addr: "10.0.0.7:80".parse().unwrap(),
        reason: None,
        detail,
    })
}

async fn finish(response: Response<ResponseBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn a_failed_get_is_sent_again_and_its_caller_sees_only_the_answer() {
    let rig = Rig::new("", [status(503), status(200)]);
    let response = rig.call(get()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(finish(response).await, "text");
    assert_eq!(rig.attempts(), 2);
    assert_eq!(rig.ended(Outcome::Answered), 1);
    assert_eq!(rig.reasons(), ["retried status_503"]);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_has_the_same_id_and_its_own_span_and_number() {
    let rig = Rig::new("", [status(503), status(503), status(200)]);
    rig.call(get()).await.unwrap();
    let sent = rig.sent.lock().unwrap();
    let values = |name: &str| -> Vec<&str> {
        sent.iter()
            .map(|sent| sent.head[name].to_str().unwrap())
            .collect()
    };
    let ids = values("x-request-id");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(values("x-weir-attempt"), ["1", "2", "3"]);
    let parents = values("traceparent");
    assert!(
        parents
            .iter()
            .all(|parent| parent[..35] == parents[0][..35]),
        "{parents:?}"
    );
    assert!(
        parents[0] != parents[1] && parents[1] != parents[2],
        "{parents:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_post_that_may_have_been_processed_is_sent_once() {
    for does in [status(503), reset()] {
        let rig = Rig::new("", [does, status(200)]);
        drop(rig.call(post("pay")).await);
        assert_eq!(rig.attempts(), 1);
        assert_eq!(rig.reasons(), ["retry_refused method"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_was_provably_not_processed_is_sent_again_byte_for_byte() {
    let rig = Rig::new("", [refused(), status(200)]);
    rig.call(post("pay")).await.unwrap();
    let sent = rig.sent.lock().unwrap();
    assert_eq!(
        sent.iter().map(|sent| &sent.body[..]).collect::<Vec<_>>(),
        [b"pay", b"pay"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_post_with_an_idempotency_key_is_sent_again() {
    let rig = Rig::new("", [status(503), status(200)]);
    let mut request = post("pay");
    request
        .headers_mut()
        .insert("idempotency-key", "1".parse().unwrap());
    assert_eq!(rig.call(request).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_bound_is_streamed_and_not_sent_again() {
    let rig = Rig::new(
        "defaults: {retry: {bodyBytesMax: 2B, methods: all}}",
        [status(503), status(200)],
    );
    let response = rig.call(post("pay")).await.unwrap();
    assert_eq!(response.status(), 503);
    finish(response).await;
    assert_eq!(rig.sent.lock().unwrap()[0].body, "pay");
    assert_eq!(rig.reasons(), ["retry_refused body"]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_spends_the_burst_and_then_stops() {
    let rig = Rig::new("", std::iter::repeat_with(|| status(503)).take(300));
    for _ in 0..100 {
        finish(rig.call(get()).await.unwrap()).await;
    }
    assert_eq!(rig.attempts(), 103);
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_retry_the_budget_refused_says_so() {
    let rig = Rig::new(
        "defaults: {retry: {budget: {burst: 1}}}",
        std::iter::repeat_with(|| status(503)).take(10),
    );
    let response = rig.call(get()).await.unwrap();
    assert_eq!(response.headers()["x-weir-retry"], "exhausted");
    finish(response).await;
    assert_eq!(
        rig.reasons(),
        ["retried status_503", "retry_refused budget"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_whose_retry_the_budget_refused_says_so_too() {
    let rig = Rig::new(
        "defaults: {retry: {budget: {burst: 0, ratio: 0}}}",
        [reset()],
    );
    let error = rig.call(get()).await.unwrap_err();
    assert!(matches!(error, CallError::Exhausted(_)), "{error}");
    assert_eq!(rig.reasons(), ["retry_refused budget"]);
}

#[tokio::test(start_paused = true)]
async fn the_servers_word_against_a_retry_is_obeyed() {
    for (name, value) in [
        ("x-weir-retry", "exhausted"),
        ("x-weir-retry", "none"),
        ("grpc-retry-pushback-ms", "-1"),
        ("retry-after", "60"),
    ] {
        let rig = Rig::new("", [with_header(503, name, value), status(200)]);
        assert_eq!(
            rig.call(get()).await.unwrap().status(),
            503,
            "{name}: {value}"
        );
        assert_eq!(rig.attempts(), 1, "{name}: {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_the_server_asks() {
    let rig = Rig::new("", [with_header(503, "retry-after", "2"), status(200)]);
    rig.call(get()).await.unwrap();
    let sent = rig.sent.lock().unwrap();
    assert!(sent[1].at - sent[0].at >= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_call_that_hangs() {
    let rig = Rig::new("defaults: {deadline: 250ms}", [Does::Hangs]);
    let begun = Instant::now();
    let error = rig.call(get()).await.unwrap_err();
    assert!(
        matches!(error, CallError::DeadlineExceeded { .. }),
        "{error}"
    );
    assert_eq!(begun.elapsed().as_millis(), 250);
    assert_eq!(rig.ended(Outcome::TimedOut), 1);
    assert_eq!(rig.reasons(), ["timed_out deadline"]);
    assert_eq!(
        rig.sent.lock().unwrap()[0].head["x-weir-deadline-ms"],
        "250"
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_timeout_makes_room_for_another_attempt() {
    let rig = Rig::new(
        "defaults: {attemptTimeout: 100ms}",
        [Does::Hangs, status(200)],
    );
    assert_eq!(rig.call(get()).await.unwrap().status(), 200);
    assert_eq!(
        rig.reasons(),
        ["timed_out attempt_timeout", "retried attempt_timeout"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_permit_leaves_with_the_response_body() {
    let rig = Rig::new(
        "defaults: {admission: {limit: 1}}",
        [status(200), status(200)],
    );
    let response = rig.call(get()).await.unwrap();
    assert_eq!(rig.destination().admission.in_flight(), 1);
    finish(response).await;
    assert_eq!(rig.destination().admission.in_flight(), 0);
    drop(rig.call(get()).await.unwrap());
    assert_eq!(rig.destination().admission.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_permit_is_held_during_backoff() {
    let rig = Rig::new(
        "defaults: {admission: {limit: 1}}",
        [with_header(503, "retry-after", "1"), status(200)],
    );
    let call = rig.call(get());
    tokio::pin!(call);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), &mut call)
            .await
            .is_err()
    );
    assert_eq!(rig.destination().admission.in_flight(), 0);
    assert_eq!(call.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_call_over_the_limit_waits_and_is_shed_with_a_reason() {
    let rig = Rig::new(
        "defaults: {admission: {limit: 1, queue: {timeout: 300ms}}}",
        [Does::Hangs],
    );
    let first = rig.call(get());
    tokio::pin!(first);
    assert!(
        tokio::time::timeout(Duration::from_millis(1), &mut first)
            .await
            .is_err()
    );
    let begun = Instant::now();
    let error = rig.call(get()).await.unwrap_err();
    assert!(matches!(error, CallError::Shed { .. }), "{error}");
    assert!(begun.elapsed() <= Duration::from_millis(300));
    assert_eq!(rig.ended(Outcome::Shed), 1);
    assert_eq!(rig.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_everything_back_and_is_recorded() {
    let rig = Rig::new("", [Does::Hangs]);
    let dropped = tokio::time::timeout(Duration::from_millis(5), rig.call(get())).await;
    assert!(dropped.is_err());
    assert_eq!(rig.destination().admission.in_flight(), 0);
    assert_eq!(rig.ended(Outcome::Cancelled), 1);
}

#[tokio::test(start_paused = true)]
async fn observe_decides_and_counts_and_does_not_act() {
    let policy = "defaults: {mode: observe, deadline: 1ms, admission: {limit: 1}}";
    let rig = Rig::new(policy, [status(503), status(200), status(200)]);
    let first = rig.call(get()).await.unwrap();
    let second = rig.call(get()).await.unwrap();
    assert_eq!(
        (first.status(), second.status()),
        (StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK)
    );
    let observed = rig.destination().view(Instant::now()).observed;
    assert_eq!(observed["queued"], 1);
}

#[tokio::test(start_paused = true)]
async fn observe_tells_of_a_call_that_it_would_have_shed() {
    let policy = "defaults: {mode: observe, admission: {limit: 1, queue: {length: 1}}}";
    let rig = Rig::new(policy, [status(200), status(200), status(200)]);
    let held = [
        rig.call(get()).await.unwrap(),
        rig.call(get()).await.unwrap(),
    ];
    finish(rig.call(get()).await.unwrap()).await;
    assert_eq!(rig.reasons(), ["would_shed queue_full"]);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn while_memory_is_short_new_calls_are_shed() {
    let rig = Rig::new("", [status(200), status(200)]);
    let held = rig.call(get()).await.unwrap();
    rig.memory.set(true);
    let error = rig.call(get()).await.unwrap_err();
    let is_for_memory = matches!(
        error,
        CallError::Shed {
            shed: Shed::Memory,
            ..
        }
    );
    assert!(is_for_memory, "{error}");
    assert_eq!(rig.reasons(), ["shed memory"]);
    assert_eq!((rig.ended(Outcome::Shed), rig.attempts()), (1, 1));
    finish(held).await;
    // One at a time goes on: whatever fills the memory, there is a way out.
    finish(rig.call(get()).await.unwrap()).await;
    assert_eq!(rig.destination().admission.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_is_sent_again_while_memory_is_short() {
    let rig = Rig::new("", [status(503), status(200)]);
    let memory = Arc::clone(&rig.memory);
    let (answer, ()) = tokio::join!(rig.call(get()), async {
        tokio::task::yield_now().await;
        memory.set(true);
    });
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    assert_eq!(rig.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn observe_and_off_let_calls_pass_while_memory_is_short() {
    for (mode, expected) in [("observe", vec!["would_shed memory"]), ("off", vec![])] {
        let policy = format!("defaults: {{mode: {mode}}}");
        let rig = Rig::new(&policy, [status(200), status(200)]);
        let held = rig.call(get()).await.unwrap();
        rig.memory.set(true);
        finish(rig.call(get()).await.unwrap()).await;
        assert_eq!(rig.reasons(), expected, "{mode}");
        let observed = rig.destination().view(Instant::now()).observed;
        let shed = observed.get("shed").copied().unwrap_or_default();
        assert_eq!(usize::try_from(shed), Ok(expected.len()), "{mode}");
        finish(held).await;
    }
}

#[tokio::test(start_paused = true)]
async fn observe_counts_the_retries_it_would_have_sent_and_sends_none() {
    let rig = Rig::new(
        "defaults: {mode: observe, retry: {budget: {ratio: 0.5, burst: 1}}}",
        [
            status(503),
            status(503),
            status(200),
            status(200),
            status(503),
        ],
    );
    for _ in 0..5 {
        finish(rig.call(get()).await.unwrap()).await;
    }
    assert_eq!(rig.attempts(), 5);
    assert_eq!(
        rig.reasons(),
        [
            "would_retry status_503",
            "would_refuse_retry budget",
            "would_retry status_503"
        ]
    );
    let destination = rig.destination().view(Instant::now());
    assert_eq!(destination.retries, 0);
    assert_eq!(destination.observed["retried"], 2);
    assert_eq!(destination.observed["retry_refused"], 1);
    assert!(
        destination.budget_balance >= 1.0,
        "the real one is untouched"
    );
}

#[tokio::test(start_paused = true)]
async fn observe_tells_what_would_forbid_a_retry() {
    let rig = Rig::new(
        "defaults: {mode: observe, retry: {bodyBytesMax: 2B, methods: all}}",
        [status(503), status(404)],
    );
    for _ in 0..2 {
        finish(rig.call(post("pay")).await.unwrap()).await;
    }
    assert_eq!(rig.reasons(), ["would_refuse_retry body"]);
}

#[tokio::test(start_paused = true)]
async fn off_decides_nothing() {
    let rig = Rig::new("defaults: {mode: off}", [status(503), reset()]);
    finish(rig.call(get()).await.unwrap()).await;
    drop(rig.call(get()).await);
    assert_eq!(rig.attempts(), 2);
    assert_eq!(rig.reasons(), [""; 0]);
    assert!(rig.destination().view(Instant::now()).observed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_be_tried_once_is_not_sent_again_for_that_reason() {
    let rig = Rig::new("defaults: {retry: {attempts: 1}}", [status(503)]);
    rig.call(get()).await.unwrap();
    assert_eq!(rig.reasons(), ["retry_refused attempts"]);
}
