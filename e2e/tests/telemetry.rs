//! What weir did can be seen: spans, metrics, decisions; and whoever looks, or does not, delays no call.

use std::collections::HashSet;
use std::time::Duration;

use e2e::collector::Collector;
use e2e::http1;
use e2e::load;
use e2e::origin::{Origin, header};
use e2e::wait;
use e2e::weir::{Builder, Weir};
use serde_json::Value;

fn exporting(collector: &Collector, protocol: &str) -> Builder {
    let url = if protocol == "grpc" {
        collector.grpc_url()
    } else {
        collector.http_url()
    };
    Weir::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_SERVICE_NAME", "shop")
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn sampled_get(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: shop.test\r\nTraceparent: 00-{TRACE}-{PARENT}-01\r\n{more}\r\n"
    )
}

fn of_kind<'a>(spans: &'a [Value], kind: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["kind"] == kind).collect()
}

fn a_retried_call_is_one_trace(protocol: &str) {
    let collector = Collector::start();
    let origin = Origin::start(&["--fail-first", "1"]);
    let weir = exporting(&collector, protocol).run();
    let answer = weir
        .http(origin.addr())
        .exchange(sampled_get(
            "/cart?secret=1",
            "X-E2e-Id: 1\r\nX-Request-Id: me\r\n",
        ))
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    let spans = collector.trace(TRACE, |spans| spans.len() >= 3);
    let calls = of_kind(&spans, "SPAN_KIND_INTERNAL");
    let calls: Vec<_> = calls
        .into_iter()
        .filter(|span| span["parent_id"] == PARENT)
        .collect();
    assert_eq!(calls.len(), 1, "{spans:#?}");
    let attempts = of_kind(&spans, "SPAN_KIND_CLIENT");
    assert_eq!(attempts.len(), 2, "{spans:#?}");
    assert!(
        attempts
            .iter()
            .all(|attempt| attempt["parent_id"] == calls[0]["span_id"]),
        "{spans:#?}"
    );
    let seen: HashSet<String> = origin
        .records()
        .iter()
        .map(|record| header(record, "traceparent")[36..52].to_owned())
        .collect();
    let exported: HashSet<String> = attempts
        .iter()
        .filter_map(|attempt| attempt["span_id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        seen, exported,
        "the server saw the attempts' spans as its parents"
    );
    let resends: Vec<i64> = attempts
        .iter()
        .filter_map(|attempt| attempt["attributes"]["http.request.resend_count"].as_i64())
        .collect();
    assert!(resends.contains(&1), "{attempts:#?}");
    let text = serde_json::to_string(&spans).expect("JSON");
    assert!(
        text.contains("\"me\""),
        "the correlation id is missing: {text}"
    );
    assert!(
        !text.contains("secret"),
        "a query is nobody's business: {text}"
    );
    assert_eq!(calls[0]["resource"]["service.name"], "shop");
}

#[test]
fn a_retried_call_is_one_trace_by_grpc() {
    a_retried_call_is_one_trace("grpc");
}

#[test]
fn a_retried_call_is_one_trace_by_http() {
    a_retried_call_is_one_trace("http/protobuf");
}

#[test]
fn a_call_that_waited_has_a_queue_span() {
    let collector = Collector::start();
    let origin = Origin::start(&[]);
    let weir = exporting(&collector, "grpc")
        .policy("version: weir/v1\ndefaults: {admission: {limit: 1, queue: {length: 10}}}\n")
        .run();
    let mut busy = weir.http(origin.addr());
    busy.send("GET /delay/300 HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .expect("weir reads");
    wait::until_true("the call to be in flight", wait::LONG, || {
        origin.calls() == 1
    });
    weir.http(origin.addr())
        .exchange(sampled_get("/", ""))
        .expect("an answer");
    let spans = collector.trace(TRACE, |spans| spans.len() >= 3);
    let queue = spans.iter().find(|span| {
        span["name"]
            .as_str()
            .is_some_and(|name| name.contains("queue"))
    });
    let queue = queue.unwrap_or_else(|| panic!("no queue span in {spans:#?}"));
    let nanos = |field: &str| queue[field].as_u64().expect("a time");
    let waited = Duration::from_nanos(nanos("end_ns") - nanos("start_ns"));
    assert!(
        waited > Duration::from_millis(30) && waited < Duration::from_secs(2),
        "{waited:?}"
    );
}

#[test]
fn what_the_caller_does_not_want_sampled_is_not_exported() {
    let collector = Collector::start();
    let origin = Origin::start(&[]);
    let weir = exporting(&collector, "grpc").run();
    let other = "11111111111111111111111111111111";
    let unsampled =
        format!("GET /echo HTTP/1.1\r\nHost: a\r\nTraceparent: 00-{other}-{PARENT}-00\r\n\r\n");
    let echo = weir
        .http(origin.addr())
        .exchange(unsampled)
        .expect("an answer")
        .json();
    assert!(header(&echo, "traceparent").ends_with("-00"), "{echo}");
    weir.http(origin.addr())
        .exchange(sampled_get("/", ""))
        .expect("an answer");
    collector.trace(TRACE, |spans| !spans.is_empty());
    assert!(
        collector
            .spans()
            .iter()
            .all(|span| span["trace_id"] != other)
    );
}

#[test]
fn a_root_that_ends_badly_is_exported_though_the_ratio_passed_it_over() {
    let collector = Collector::start();
    let origin = Origin::start(&["--fail-first", "9"]);
    let weir = exporting(&collector, "grpc")
        .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0")
        .run();
    for request in [
        "GET /good HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\nX-E2e-Id: 1\r\n\r\n",
    ] {
        weir.http(origin.addr())
            .exchange(request)
            .expect("an answer");
    }
    wait::until_true("the bad root", wait::LONG, || !collector.spans().is_empty());
    let text = serde_json::to_string(&collector.spans()).expect("JSON");
    assert!(text.contains("/bad") && !text.contains("/good"), "{text}");
}

fn a_collector_delays_no_call(url: &str, protocol: &str) {
    let origin = Origin::start(&[]);
    let weir = Weir::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_TRACES_SAMPLER", "always_on")
        .run();
    let target = origin.url("/");
    let rate = [target.as_str(), "--rate", "200", "--connections", "16"];
    // What this machine, which may be busy with something else, makes of such calls without weir.
    let bare = load::direct(&[&rate[..], &["--seconds", "1"]].concat());
    let measured = load::inside(&weir, &[&rate[..], &["--seconds", "3"]].concat());
    assert_eq!(
        measured.count("answered"),
        measured.count("offered"),
        "{}",
        measured.0
    );
    let bound_ms = 250.0 + 3.0 * bare.number("p99_ms");
    assert!(
        measured.number("p99_ms") < bound_ms,
        "above {bound_ms} ms: {}",
        measured.0
    );
}

#[test]
fn a_collector_that_is_down_delays_no_call() {
    a_collector_delays_no_call(&format!("http://{}", e2e::scripted::closed_addr()), "grpc");
}

#[test]
fn a_collector_that_never_answers_delays_no_call() {
    let collector = Collector::in_mood("silent");
    a_collector_delays_no_call(&collector.grpc_url(), "grpc");
    a_collector_delays_no_call(&collector.http_url(), "http/protobuf");
}

#[test]
fn a_hostile_collector_delays_no_call() {
    let collector = Collector::in_mood("garbage");
    a_collector_delays_no_call(&collector.grpc_url(), "grpc");
    a_collector_delays_no_call(&collector.http_url(), "http/protobuf");
}

#[test]
fn killing_the_collector_is_noticed_by_nobody() {
    let mut collector = Collector::start();
    let origin = Origin::start(&[]);
    let weir = exporting(&collector, "grpc").run();
    let mut connection = weir.http(origin.addr());
    for number in 0..40 {
        if number == 10 {
            collector.process().kill();
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(connection.get("a", "/").expect("an answer").status(), 200);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn metrics_are_well_formed_and_count_what_happened() {
    let origin = Origin::start(&["--fail-first", "1"]);
    let weir = Weir::run();
    for number in 0..5 {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-E2e-Id: {}\r\n\r\n",
            if number == 0 { "x" } else { "" }
        );
        weir.http(origin.addr())
            .exchange(request.replace("X-E2e-Id: \r\n", ""))
            .expect("an answer");
    }
    let text = weir.metrics();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (name, value) = line
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line}");
        let bare = name.split('{').next().unwrap_or_default();
        assert!(
            bare.chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':'),
            "no name: {line}"
        );
    }
    let declared: HashSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    println!("{declared:#?}");
    for needed in [
        "weir_outbound_requests",
        "weir_outbound_attempts",
        "weir_outbound_rejected",
        "weir_outbound_retries",
        "weir_outbound_queue_oldest_age_seconds",
        "weir_retry_budget_tokens",
        "weir_policy_updates",
        "weir_event_loop_lateness_seconds",
    ] {
        assert!(
            declared.iter().any(|name| name.starts_with(needed)),
            "no {needed} among {declared:?}"
        );
    }
    assert!(
        (weir.metric("weir_outbound_requests_total", &[]) - 5.0).abs() < 0.1,
        "{text}"
    );
    assert!(
        (weir.metric("weir_outbound_attempts_total", &[]) - 6.0).abs() < 0.1,
        "{text}"
    );
    let upstream = [r#"side="upstream""#, r#"protocol="http1""#];
    assert!(
        weir.metric("weir_connections_active", &upstream) >= 1.0,
        "{text}"
    );
    for side in [r#"side="downstream""#, r#"side="upstream""#] {
        for direction in [r#"direction="received""#, r#"direction="sent""#] {
            let bytes = weir.metric("weir_connection_bytes_total", &[side, direction]);
            assert!(bytes > 100.0, "{side} {direction}: {text}");
        }
    }
}

#[test]
fn a_shed_call_is_explained() {
    let origin = Origin::start(&[]);
    let weir =
        Weir::run_with("version: weir/v1\ndefaults: {admission: {limit: 1, queue: {length: 0}}}\n");
    let mut busy = weir.http(origin.addr());
    busy.send("GET /delay/1000 HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .expect("weir reads");
    wait::until_true("the call to be in flight", wait::LONG, || {
        origin.calls() == 1
    });
    let refused = weir
        .http(origin.addr())
        .exchange(sampled_get("/", "X-Request-Id: me\r\n"))
        .expect("an answer");
    assert_eq!(refused.status(), 503);
    let decision = wait::until("the decision", wait::LONG, || {
        weir.list(&format!("/v1/decisions?trace={TRACE}"))
            .into_iter()
            .find(|decision| decision["what"] == "shed")
    });
    assert_eq!(decision["reason"], "queue_full", "{decision}");
    assert_eq!(decision["correlationId"], "me", "{decision}");
    assert_eq!(
        decision["revision"],
        weir.read("/v1/status")["policy"]["revision"],
        "{decision}"
    );
    assert!(
        decision["inputs"]
            .as_object()
            .is_some_and(|inputs| !inputs.is_empty()),
        "{decision}"
    );
}

#[test]
fn the_admin_port_is_read_only_and_speaks_of_health() {
    let weir = Weir::run();
    for path in ["/livez", "/readyz", "/metrics", "/"] {
        assert_eq!(
            http1::get(weir.admin(), path).expect("an answer").status(),
            200,
            "{path}"
        );
    }
    let page = http1::get(weir.admin(), "/").expect("an answer");
    assert!(
        page.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html")),
        "{page:?}"
    );
    let mut connection = http1::Connection::open(weir.admin()).expect("it listens");
    let post = connection
        .exchange(format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            weir.admin()
        ))
        .expect("an answer");
    assert!([404, 405].contains(&post.status()), "{post:?}");
}
