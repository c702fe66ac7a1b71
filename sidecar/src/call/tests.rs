use control_api::document::Document;
use http::Request;
use http::request::Builder;

use super::*;

const DEFAULTS: &str = "";

fn begin(policy: &str, request: Builder) -> (Arc<Call>, Parts) {
    let policy = Document::parse(&format!("version: weir/v1\n{policy}"))
        .unwrap()
        .compile();
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    let context = Context {
        policy: &policy,
        revision: 7,
        destinations: &Destinations::new(4),
        original_destination: "10.0.0.7:8080".parse().unwrap(),
        telemetry: &Telemetry::default(),
    };
    (Call::begin(&mut head, &context), head)
}

fn call(policy: &str, request: Builder) -> Arc<Call> {
    begin(policy, request).0
}

fn get() -> Builder {
    Request::get("/orders").header("host", "Shop.Svc:80")
}

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn a_destination_is_the_host_that_was_named_and_the_port_that_was_dialled() {
    let call = call(DEFAULTS, get());
    assert_eq!(&*call.destination.name, "shop.svc:8080");
    assert_eq!(call.endpoint, "10.0.0.7:8080".parse().unwrap());
    assert_eq!((&*call.rule.name, call.revision), ("defaults", 7));
    let nameless = begin(DEFAULTS, Request::get("/orders")).0;
    assert_eq!(&*nameless.destination.name, "10.0.0.7:8080");
}

#[test]
fn the_route_is_found_by_host_port_path_and_method() {
    let policy = r"
routes:
  - {name: orders, match: {authority: shop.svc, port: 8080, path: {prefix: /orders}, methods: [GET]}, deadline: 1s}
";
    let route = |request| call(policy, request).rule.name.to_string();
    assert_eq!(route(get()), "orders");
    assert_eq!(route(get().method("POST")), "defaults");
    assert_eq!(route(get().uri("/")), "defaults");
}

#[test]
fn a_correlation_id_is_minted_and_written_where_there_is_none() {
    let (minted, head) = begin(DEFAULTS, get());
    assert_eq!(head.headers["x-request-id"], minted.correlation_id);
    let (kept, head) = begin(DEFAULTS, get().header("x-request-id", "id-1"));
    assert_eq!(kept.correlation_id, "id-1");
    assert_eq!(head.headers["x-request-id"], "id-1");
}

#[test]
fn the_protocol_is_grpc_only_over_http2() {
    let grpc = |version| {
        let request = get().version(version);
        call(DEFAULTS, request.header("content-type", "application/grpc")).protocol
    };
    assert_eq!(grpc(http::Version::HTTP_2), Protocol::Grpc);
    assert_eq!(grpc(http::Version::HTTP_11), Protocol::Http1);
    let plain = call(DEFAULTS, get().version(http::Version::HTTP_2));
    assert_eq!(plain.protocol, Protocol::Http2);
}

#[test]
fn the_least_of_all_deadlines_holds() {
    let asked = || get().header("grpc-timeout", "2S");
    let deadline = |policy, request| call(policy, request).deadline;
    assert_eq!(deadline(DEFAULTS, get()), None);
    assert_eq!(deadline(DEFAULTS, asked()), Some(milliseconds(2000)));
    let one_second = "defaults: {deadline: 1s}";
    assert_eq!(deadline(one_second, get()), Some(milliseconds(1000)));
    assert_eq!(deadline(one_second, asked()), Some(milliseconds(1000)));
    let three_seconds = "defaults: {deadline: 3s}";
    assert_eq!(deadline(three_seconds, asked()), Some(milliseconds(2000)));
}

#[test]
fn a_policy_that_only_observes_sets_no_deadline_and_one_that_is_off_heeds_none() {
    let asked = || get().header("x-weir-deadline-ms", "2000");
    let observe = "defaults: {mode: observe, deadline: 1s}";
    assert_eq!(call(observe, asked()).deadline, Some(milliseconds(2000)));
    assert_eq!(call(observe, get()).deadline, None);
    let off = "defaults: {mode: \"off\", deadline: 1s}";
    assert_eq!(call(off, asked()).deadline, None);
}

#[test]
fn a_callers_priority_comes_before_the_routes() {
    let sheddable = "defaults: {priority: sheddable}";
    let priority = |value| call(sheddable, get().header("x-weir-priority", value)).priority;
    assert_eq!(priority("critical"), Priority::Critical);
    assert_eq!(priority("normal"), Priority::Normal);
    assert_eq!(priority("urgent"), Priority::Sheddable);
    assert_eq!(call(sheddable, get()).priority, Priority::Sheddable);
}

#[test]
fn tries_of_callers_are_counted_by_whichever_header_says_most() {
    for (name, value, before) in [
        ("x-weir-attempt", "1", 0),
        ("x-weir-attempt", "3", 2),
        ("x-envoy-attempt-count", "2", 1),
        ("grpc-previous-rpc-attempts", "2", 2),
        ("x-weir-attempt", "0", 0),
        ("x-weir-attempt", "-1", 0),
        ("x-weir-attempt", "99999999999", 0),
    ] {
        let call = call(DEFAULTS, get().header(name, value));
        assert_eq!(call.previous_attempts, before, "{name}: {value}");
    }
}

#[test]
fn tunnels_and_promises_of_repeatability_are_noted() {
    assert!(call(DEFAULTS, get().header("upgrade", "websocket")).is_upgrade);
    assert!(call(DEFAULTS, Request::connect("shop:443")).is_upgrade);
    assert!(!call(DEFAULTS, get()).is_upgrade);
    assert!(call(DEFAULTS, get().header("idempotency-key", "1")).has_idempotency_key);
}
