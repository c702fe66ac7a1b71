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
const FLOOD: [&str; 10] = [
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
];

fn number(value: &Value, name: &str) -> f64 {
    value[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no number {name} in {value}"))
}

fn p99(load: &Value) -> f64 {
    number(&load["latency_ms"], "p99")
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn retries_of_a_failing_deployment_stay_within_their_budget() {
    let shop = Namespace::injected("weir-retries");
    shop.shop(&["stock"]);
    shop.client("");
    let stock = shop.pod("app=stock");
    for (share, most) in [("1.0", 1.05), ("0.5", 1.15)] {
        shop.ask(&stock, 9000, &format!("/fault?status=503&share={share}"));
        shop.ask(&stock, 9000, "/reset");
        let result = shop.load(
            "http://stock/stock/1",
            &["--rate", "100", "--seconds", "10", "--concurrency", "50"],
        );
        let counts = shop.counts(&stock);
        let arrived = number(&counts, "served") + number(&counts, "failed");
        let amplification = arrived / number(&result, "sent");
        println!("{share} of the answers are 503: {amplification:.3} server calls per call");
        // Ten in a hundred successes may be retried, and a burst of three at the start.
        assert!(
            amplification <= most,
            "{amplification} server calls per call: {result}"
        );
        assert!(amplification > 0.95, "the calls did arrive: {result}");
    }
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
    assert!(
        shop.metric(client, "weir_outbound_rejected_total", &[]) as f64 >= shed,
        "and counted by reason"
    );
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
