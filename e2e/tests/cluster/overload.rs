//! A service that fails or is too slow: retries stay within their budget, what is too much is refused, others do not notice.

use std::time::Duration;

use e2e::cluster::namespace::Namespace;
use serde_json::Value;

/// Calls that their service takes with ease.
const QUIET: [&str; 7] = [
    "--grpc",
    "--rate",
    "50",
    "--seconds",
    "8",
    "--concurrency",
    "50",
];

/// Three times what stock can do.
const FLOOD: [&str; 12] = [
    "/shop",
    "load",
    "--url",
    "http://stock/stock/1",
    "--rate",
    "240",
    "--seconds",
    "12",
    "--concurrency",
    "400",
    "--count-header",
    "x-weir-shed",
];

/// Every reason for which weir may refuse a call of a service that is too slow.
const REASONS: [&str; 5] = [
    "queue_full",
    "queue_timeout",
    "queue_standing",
    "displaced",
    "deadline_unreachable",
];

fn number(value: &Value, name: &str) -> f64 {
    value[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no number {name} in {value}"))
}

fn count(value: &Value, name: &str) -> u64 {
    value[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no count {name} in {value}"))
}

fn p99(load: &Value) -> f64 {
    number(&load["latency_ms"], "p99")
}

/// What became of ten seconds of calls while stock answers a share of them with 503.
struct Failing {
    sent: u64,
    ok: u64,
    /// Calls that reached the server, and those of them that it answered well.
    arrived: u64,
    served: u64,
    /// Calls that were sent again and then answered well, as the caller's sidecar counts them.
    saved: u64,
}

impl Failing {
    fn of(shop: &Namespace, stock: &str, share: &str) -> Self {
        let outcome = ["outcome=\"succeeded\""];
        let saved = || shop.metric("client", "weir_outbound_retries_total", &outcome);
        shop.ask(stock, 9000, &format!("/fault?status=503&share={share}"));
        shop.ask(stock, 9000, "/reset");
        let before = saved();
        let result = shop.load(
            "http://stock/stock/1",
            &["--rate", "100", "--seconds", "10", "--concurrency", "50"],
        );
        let counts = shop.counts(stock);
        let served = count(&counts, "served");
        let found = Self {
            sent: count(&result, "sent"),
            ok: count(&result, "ok"),
            arrived: served + count(&counts, "failed"),
            served,
            saved: saved() - before,
        };
        println!(
            "{share} of the answers are 503: {:.3} server calls per call; {} of {} calls answered well, {} of them by a retry",
            found.amplification(),
            found.ok,
            found.sent,
            found.saved
        );
        found
    }

    fn amplification(&self) -> f64 {
        self.arrived as f64 / self.sent as f64
    }
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn retries_of_a_failing_deployment_stay_within_their_budget_and_are_of_use() {
    let shop = Namespace::injected("weir-retries");
    shop.shop(&["stock"]);
    shop.client("");
    let stock = shop.pod("app=stock");
    // Ten in a hundred successes may be retried, and a burst of three at the start.
    let down = Failing::of(&shop, &stock, "1.0").amplification();
    assert!(down > 0.95 && down <= 1.05, "{down} server calls per call");

    let flaky = Failing::of(&shop, &stock, "0.5");
    let amplification = flaky.amplification();
    assert!(
        amplification > 1.02 && amplification <= 1.15,
        "{amplification} server calls per call"
    );
    assert_eq!(flaky.ok, flaky.served, "no good answer was lost");
    // The server answers each second call well: more than half of the callers' calls are only by retries.
    let retries = flaky.arrived - flaky.sent;
    assert!(
        2 * flaky.ok > flaky.sent,
        "{} of {} calls answered well, with {retries} retries",
        flaky.ok,
        flaky.sent
    );
    assert!(
        flaky.saved * 4 >= retries,
        "{} of {retries} retries were of use",
        flaky.saved
    );
}

/// Every refusal that the client was told of has a reason, and weir counted it by that.
fn assert_refused_with_reasons(shop: &Namespace, flooded: &Value) {
    let told = flooded["headers"].as_object().expect("reasons");
    println!("refused, as the client was told: {}", flooded["headers"]);
    let counted = |parts: &[&str]| shop.metric("client", "weir_outbound_rejected_total", parts);
    for (reason, count) in told {
        assert!(REASONS.contains(&reason.as_str()), "what is {reason}?");
        let by_weir = counted(&[&format!("reason=\"{reason}\"")]);
        assert_eq!(count.as_u64(), Some(by_weir), "{reason}, by weir's count");
    }
    let refused = count(&flooded["status"], "503");
    let told: u64 = told.values().filter_map(Value::as_u64).sum();
    assert_eq!(told, refused, "each refusal says why: {flooded}");
    assert_eq!(counted(&[]), refused, "for no other reason");
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn an_overloaded_service_sheds_with_reasons_and_the_others_keep_their_latency() {
    let shop = Namespace::injected("weir-overload");
    shop.policy("routes: [{name: stock, match: {authority: stock}, admission: {limit: 8}}]");
    shop.shop(&["stock", "ledger"]);
    let client = shop.client("");
    // Ledger asks nobody: what it takes is its own.
    let other = "ledger:50051/shop.Ledger/Record";
    let alone = shop.load(other, &QUIET);

    // Four at a time, 50 ms each: 80 a second.
    let stock = shop.pod("app=stock");
    shop.ask(&stock, 9000, "/fault?delay=50ms&concurrency=4");
    let mut flood = shop.exec_beside(client, "app", &FLOOD);
    let beside = shop.load(other, &QUIET);
    assert!(
        flood.wait(Duration::from_mins(1)).success(),
        "{}",
        flood.output()
    );
    let flooded: Value = serde_json::from_str(&flood.output()).expect("a summary");

    let in_time = number(&flooded, "ok") / number(&flooded, "seconds");
    let shed = number(&flooded["status"], "503");
    println!(
        "overload: {in_time:.0}/s of 80/s answered, {shed} refused, p99 {} ms; the other service's p99 {} ms, alone {} ms",
        p99(&flooded),
        p99(&beside),
        p99(&alone)
    );
    assert!(
        in_time >= 56.0,
        "what the service can do is still done: {flooded}"
    );
    assert!(shed > 0.0, "what it cannot do is refused: {flooded}");
    assert_refused_with_reasons(&shop, &flooded);
    let decisions = shop.weirctl(client, &["decisions"]).to_string();
    assert!(decisions.contains("shed"), "and explained: {decisions}");
    assert_eq!(
        beside["ok"], beside["sent"],
        "no call of the other service failed: {beside}"
    );
    let allowed = (2.0 * p99(&alone)).max(p99(&alone) + 25.0);
    assert!(
        p99(&beside) <= allowed,
        "alone {alone}, beside the flood {beside}"
    );
}
