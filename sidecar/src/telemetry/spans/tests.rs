use std::sync::Arc;

use expect_test::expect;

use super::*;
use crate::telemetry::fixture::{self, millis};

fn spans_of(record: CallRecord) -> Vec<SpanData> {
    let mut spans = Vec::new();
    let expected = count(&record);
    append(
        &KeptCall::from(record),
        &InstrumentationScope::builder("weir").build(),
        &mut spans,
    );
    assert_eq!(spans.len(), expected);
    spans
}

/// A trace as text: kind, name, milliseconds, attributes, events, status.
fn drawn(spans: &[SpanData]) -> String {
    let first = spans[0].start_time;
    let since = |time: SystemTime| time.duration_since(first).unwrap().as_millis();
    let pairs = |pairs: &[KeyValue], before: &str, after: &str| -> String {
        let pair = |pair: &KeyValue| format!("{before}{}={}{after}", pair.key, pair.value);
        pairs.iter().map(pair).collect::<Vec<_>>().concat()
    };
    let event = |event: &Event| {
        let pairs = pairs(&event.attributes, " ", "");
        format!("  @{} {}{pairs}\n", since(event.timestamp), event.name)
    };
    let span = |span: &SpanData| {
        format!(
            "{:?} {:?} {}..{} {:?}\n{}{}",
            span.span_kind,
            span.name,
            since(span.start_time),
            since(span.end_time),
            span.status,
            pairs(&span.attributes, "    ", "\n"),
            span.events
                .events
                .iter()
                .map(event)
                .collect::<Vec<_>>()
                .concat(),
        )
    };
    spans.iter().map(span).collect::<Vec<_>>().concat()
}

#[test]
fn a_retried_call_has_a_span_for_each_attempt_and_for_the_wait() {
    let spans = spans_of(fixture::retried_call());
    expect![[r#"
        Internal "call GET" 0..70 Unset
            http.request.method=GET
            url.path=/v1/pay
            server.address=payments
            server.port=80
            weir.correlation_id=0191b2c4-7d1a-7000-8000-000000000001
            weir.route=pay
            weir.policy.revision=3
            weir.outcome=answered
            http.response.status_code=200
          @10 weir.retried weir.reason=status_503 weir.budget_retries=2.5 weir.backoff_ms=20
          @10 weir.backoff weir.backoff_ms=20
        Client "GET" 0..10 Error { description: "503" }
            http.request.method=GET
            url.path=/v1/pay
            server.address=payments
            server.port=80
            network.peer.address=10.0.0.7
            network.peer.port=80
            network.protocol.version=1.1
            http.response.status_code=503
            error.type=503
        Internal "queue" 30..50 Unset
            server.address=payments
            http.request.resend_count=1
        Client "GET" 50..65 Unset
            http.request.method=GET
            url.path=/v1/pay
            server.address=payments
            server.port=80
            network.peer.address=10.0.0.7
            network.peer.port=80
            network.protocol.version=1.1
            http.request.resend_count=1
            http.response.status_code=200
    "#]]
    .assert_eq(&drawn(&spans));
    let call = &spans[0];
    for child in &spans[1..] {
        assert_eq!(child.parent_span_id, call.span_context.span_id());
        assert_eq!(child.span_context.trace_id(), call.span_context.trace_id());
        assert!(child.start_time >= call.start_time && child.end_time <= call.end_time);
    }
    assert_eq!(
        spans[1].span_context.span_id(),
        SpanId::from_bytes([0x11; 8])
    );
}

#[test]
fn a_shed_call_says_why() {
    let mut record = fixture::shed_call();
    record.attempts[0].ended = millis(100);
    record.duration = millis(100);
    expect![[r#"
        Internal "call GET" 0..100 Error { description: "queue_full" }
            http.request.method=GET
            url.path=/v1/pay
            server.address=payments
            server.port=80
            weir.correlation_id=0191b2c4-7d1a-7000-8000-000000000001
            weir.route=pay
            weir.policy.revision=3
            weir.outcome=shed
            http.response.status_code=503
            error.type=queue_full
          @1 weir.shed weir.reason=queue_full weir.queue_length=64 weir.limit=8
        Internal "queue" 0..100 Error { description: "queue_full" }
            server.address=payments
            weir.shed.reason=queue_full
    "#]]
    .assert_eq(&drawn(&spans_of(record)));
}

#[test]
fn a_grpc_call_is_named_by_its_method_and_carries_its_status() {
    let mut record = fixture::answered_call();
    record.protocol = Protocol::Grpc;
    record.method = http::Method::POST;
    record.uri = http::Uri::from_static("http://[::1]:50051/shop.Pay/Charge");
    record.destination = Arc::from("[::1]:50051");
    record.grpc_status = Some(14);
    record.outcome = Outcome::Failed;
    record.parent_span_id = Some([7; 8]);
    expect![[r#"
        Internal "call shop.Pay/Charge" 0..12 Error { description: "grpc_14" }
            http.request.method=POST
            url.path=/shop.Pay/Charge
            server.address=::1
            server.port=50051
            rpc.system=grpc
            rpc.service=shop.Pay
            rpc.method=Charge
            weir.correlation_id=0191b2c4-7d1a-7000-8000-000000000001
            weir.route=pay
            weir.policy.revision=3
            weir.outcome=failed
            http.response.status_code=200
            rpc.grpc.status_code=14
            error.type=grpc_14
        Client "shop.Pay/Charge" 0..11 Unset
            http.request.method=POST
            url.path=/shop.Pay/Charge
            server.address=::1
            server.port=50051
            rpc.system=grpc
            rpc.service=shop.Pay
            rpc.method=Charge
            network.peer.address=10.0.0.7
            network.peer.port=80
            network.protocol.version=2
            http.response.status_code=200
    "#]]
    .assert_eq(&drawn(&spans_of(record.clone())));
    let call = &spans_of(record)[0];
    assert_eq!(call.parent_span_id, SpanId::from_bytes([7; 8]));
    assert!(call.parent_span_is_remote);
    assert!(call.span_context.is_sampled());
}

#[test]
fn a_call_that_ended_before_it_began_by_the_wall_clock_still_makes_spans() {
    let mut record = fixture::answered_call();
    record.duration = Duration::ZERO;
    record.attempts[0].ended = Duration::ZERO;
    record.attempts[0].dispatched = Some(millis(5));
    for span in spans_of(record) {
        assert!(span.end_time >= span.start_time);
    }
}

#[test]
fn a_destination_that_is_no_host_and_port_makes_no_port() {
    let mut record = fixture::answered_call();
    record.destination = Arc::from("unix");
    let span = &spans_of(record)[0];
    assert!(
        !span
            .attributes
            .iter()
            .any(|pair| pair.key.as_str() == "server.port")
    );
}
