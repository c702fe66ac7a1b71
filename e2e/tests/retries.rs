//! Only what is safe is repeated, and never more than the budget allows.

use e2e::h2c::{self, Client};
use e2e::http1::Message;
use e2e::load;
use e2e::origin::{Origin, header};
use e2e::weir::Weir;
use serde_json::Value;

fn call(weir: &Weir, origin: &Origin, request: &str) -> Message {
    weir.http(origin.addr())
        .exchange(request)
        .expect("an answer")
}

fn attempts(origin: &Origin) -> Vec<Value> {
    origin.records()
}

#[test]
fn half_of_the_calls_failing_costs_the_server_at_most_a_tenth_more() {
    let origin = Origin::start(&["--fail-share", "0.5"]);
    let weir = Weir::run();
    let url = origin.url("/");
    let measured = load::inside(
        &weir,
        &[
            &url,
            "--rate",
            "400",
            "--seconds",
            "5",
            "--connections",
            "32",
        ],
    );
    let (made, reached) = (measured.count("offered"), origin.calls());
    let amplification = reached as f64 / made as f64;
    println!(
        "{made} calls made, {reached} reached the server: {amplification:.3}; {}",
        measured.0
    );
    assert!(amplification <= 1.1, "{amplification:.3}");
    assert!(
        amplification > 1.02,
        "the budget is not used: {amplification:.3}"
    );
}

#[test]
fn a_total_outage_costs_the_server_no_more_than_the_burst() {
    let origin = Origin::start(&["--fail-share", "1"]);
    let weir = Weir::run();
    let url = origin.url("/");
    let measured = load::inside(
        &weir,
        &[
            &url,
            "--rate",
            "200",
            "--seconds",
            "3",
            "--connections",
            "32",
        ],
    );
    let (made, reached) = (measured.count("offered"), origin.calls());
    assert!(
        reached <= made + 3,
        "{made} calls made, {reached} reached the server"
    );
}

#[test]
fn a_post_reaches_a_flaky_server_exactly_once() {
    for how in ["unavailable", "internal", "reset", "cut"] {
        let origin = Origin::start(&["--fail-share", "0.5", "--fail-how", how]);
        let weir = Weir::run();
        for number in 0..40 {
            let request = format!(
                "POST / HTTP/1.1\r\nHost: a\r\nX-E2e-Id: {number}\r\nContent-Length: 5\r\n\r\nhello"
            );
            // A broken answer is an answer here: what counts is what the server saw.
            drop(weir.http(origin.addr()).exchange(request));
        }
        let records = attempts(&origin);
        let again: Vec<&Value> = records
            .iter()
            .filter(|record| record["number"] != 1)
            .collect();
        assert!(again.is_empty(), "{how}: {again:#?}");
        assert_eq!(records.len(), 40, "{how}");
    }
}

#[test]
fn every_attempt_is_the_same_call_with_a_number_and_a_span_of_its_own() {
    let origin = Origin::start(&["--fail-first", "2"]);
    let weir = Weir::run();
    let body = "0123456789".repeat(1_000);
    let answer = call(
        &weir,
        &origin,
        &format!(
            "PUT /x HTTP/1.1\r\nHost: a\r\nX-E2e-Id: 1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert_eq!(answer.status(), 200);
    let records = attempts(&origin);
    assert_eq!(records.len(), 3);
    let all = |name: &str| {
        records
            .iter()
            .map(|record| header(record, name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(all("x-weir-attempt"), ["1", "2", "3"]);
    assert!(
        records
            .iter()
            .all(|record| record["body_hash"] == records[0]["body_hash"]),
        "{records:#?}"
    );
    assert!(records.iter().all(|record| record["body_bytes"] == 10_000));
    let ids = all("x-request-id");
    assert!(
        ids.iter().all(|id| *id == ids[0])
            && answer.header("x-request-id") == Some(ids[0].as_str())
    );
    let traces = all("traceparent");
    assert!(
        traces.iter().all(|trace| trace[3..35] == traces[0][3..35]),
        "one trace: {traces:?}"
    );
    assert!(
        traces[0][36..52] != traces[1][36..52] && traces[1][36..52] != traces[2][36..52],
        "{traces:?}"
    );
    assert_eq!(all("content-length"), ["10000", "10000", "10000"]);
}

#[test]
fn a_chunked_body_is_replayed_byte_for_byte() {
    let origin = Origin::start(&["--fail-first", "1"]);
    let weir = Weir::run();
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nX-E2e-Id: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    assert_eq!(call(&weir, &origin, request).status(), 200);
    let records = attempts(&origin);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["body_hash"], records[1]["body_hash"]);
    assert_eq!(records[1]["body_bytes"], 11);
}

#[test]
fn a_body_above_the_bound_streams_and_is_not_repeated() {
    let origin = Origin::start(&["--fail-first", "2"]);
    let weir = Weir::run();
    let body = "b".repeat(200_000);
    let request = format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nX-E2e-Id: 1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(call(&weir, &origin, &request).status(), 503);
    let records = attempts(&origin);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["body_bytes"], 200_000);
}

#[test]
fn nothing_is_repeated_once_the_head_was_passed_on() {
    let origin = Origin::start(&["--fail-first", "1", "--fail-how", "cut"]);
    let weir = Weir::run();
    let broken = weir
        .http(origin.addr())
        .exchange("GET / HTTP/1.1\r\nHost: a\r\nX-E2e-Id: 1\r\n\r\n");
    assert!(
        broken.is_err(),
        "a body that was cut off looks whole: {broken:?}"
    );
    assert_eq!(origin.calls(), 1);
}

#[test]
fn an_answer_that_asks_for_no_retry_is_obeyed() {
    for told in [
        "x-weir-retry: exhausted",
        "x-weir-retry: none",
        "retry-after: 3600",
    ] {
        let origin = Origin::start(&["--fail-first", "1", "--fail-header", told]);
        let weir = Weir::run();
        let answer = call(
            &weir,
            &origin,
            "GET / HTTP/1.1\r\nHost: a\r\nX-E2e-Id: 1\r\n\r\n",
        );
        assert_eq!((answer.status(), origin.calls()), (503, 1), "{told}");
    }
}

#[tokio::test]
async fn a_grpc_call_is_repeated_unless_the_server_pushes_back() {
    let cases = [
        (vec![], 3, "0"),
        (vec!["--fail-header", "grpc-retry-pushback-ms: -1"], 1, "14"),
        (
            vec!["--fail-header", "grpc-retry-pushback-ms: 60000"],
            1,
            "14",
        ),
    ];
    let policy = "version: weir/v1\ndefaults: {retry: {methods: all}}\n";
    for (extra, reached, status) in cases {
        let mut knobs = vec!["--fail-first", "2", "--fail-how", "grpc-unavailable"];
        knobs.extend(&extra);
        let origin = Origin::start(&knobs);
        let weir = Weir::run_with(policy);
        let client = Client::open(weir.connect(origin.addr()))
            .await
            .expect("weir speaks HTTP/2");
        let request = h2c::grpc(origin.addr(), "/a.B/C", &[("x-e2e-id", "1")]);
        let reply = client
            .call(request, h2c::grpc_message(b"hello"))
            .await
            .expect("an answer");
        assert_eq!(reply.trailer("grpc-status"), status, "{extra:?}: {reply:?}");
        let records = attempts(&origin);
        assert_eq!(records.len(), reached, "{extra:?}");
        assert!(
            records
                .iter()
                .all(|record| record["body_hash"] == records[0]["body_hash"])
        );
        if reached == 3 {
            assert_eq!(
                header(&records[2], "grpc-previous-rpc-attempts"),
                "2",
                "{:#?}",
                records[2]
            );
        }
    }
}

#[test]
fn a_refused_connection_is_tried_again_whatever_the_method() {
    let addr = e2e::scripted::closed_addr();
    let weir = Weir::run();
    let begun = tokio::time::Instant::now();
    let mut connection = weir.http(addr);
    let answer = connection
        .exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        .expect("an answer");
    assert_eq!(answer.status(), 502);
    assert!(begun.elapsed() < std::time::Duration::from_secs(3));
    let decisions = weir.read("/v1/decisions").to_string();
    assert!(decisions.contains("retried"), "{decisions}");
}

#[test]
fn a_policy_may_say_that_nothing_is_repeated() {
    let origin = Origin::start(&["--fail-first", "1"]);
    let weir = Weir::run_with("version: weir/v1\ndefaults: {retry: {attempts: 1}}\n");
    let answer = call(
        &weir,
        &origin,
        "GET / HTTP/1.1\r\nHost: a\r\nX-E2e-Id: 1\r\n\r\n",
    );
    assert_eq!((answer.status(), origin.calls()), (503, 1));
}

#[test]
fn an_idempotency_key_makes_a_post_safe() {
    let origin = Origin::start(&["--fail-first", "1"]);
    let weir = Weir::run();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nX-E2e-Id: 1\r\nIdempotency-Key: k\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(call(&weir, &origin, request).status(), 200);
    assert_eq!(origin.calls(), 2);
}
