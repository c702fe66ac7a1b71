//! Pods come and go under load, and no call is lost.

use std::time::Duration;

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SOON, until};
use e2e::process::Process;
use serde_json::Value;

/// The last line of a client's log.
fn summary(text: &str) -> Value {
    let line = text
        .lines()
        .rfind(|line| line.starts_with('{'))
        .unwrap_or_else(|| panic!("no summary in {text}"));
    serde_json::from_str(line).expect("a summary is JSON")
}

fn assert_nothing_was_lost(summary: &Value, what: &str) {
    println!(
        "{what}: {} calls, {} answered, at most {} ms",
        summary["sent"], summary["ok"], summary["latency_ms"]["max"]
    );
    assert!(
        summary["sent"].as_u64().is_some_and(|sent| sent > 100),
        "{what}: {summary}"
    );
    // Of a load that goes on some calls are not answered yet.
    let answered = summary["sent"]
        .as_u64()
        .zip(summary["in_flight"].as_u64())
        .map(|(sent, open)| sent - open);
    assert_eq!(answered, summary["ok"].as_u64(), "{what}: {summary}");
}

/// The logs of a pod until it is gone.
fn logs(shop: &Namespace, pod: &str) -> Process {
    let mut command = std::process::Command::new("kubectl");
    command.args([
        "--namespace",
        shop.name(),
        "logs",
        "--follow",
        "--container",
        "app",
        pod,
    ]);
    Process::spawn("logs", &mut command)
}

fn rollouts_lose_nothing(name: &str, annotations: &str) {
    let shop = Namespace::injected(name);
    shop.shop(&["stock"]);
    shop.kubectl(&["scale", "deployment/stock", "--replicas=2"]);
    shop.available("stock");
    // It goes on for three seconds after it is told to end.
    let callers = shop.callers(1, annotations, "--rate, '100', --linger, 3s");
    let caller = callers.first().expect("there is one");

    // The servers go, one by one, then one is deleted outright.
    shop.kubectl(&["rollout", "restart", "deployment/stock"]);
    shop.available("stock");
    let victim = shop.pods("app=stock").pop().expect("there are two");
    shop.kubectl(&["delete", "pod", &victim, "--wait"]);
    shop.available("stock");
    assert_nothing_was_lost(&shop.summary(caller), &format!("{name}: servers went"));

    // The client goes: it calls until its very end, and its sidecar serves it until then.
    let mut logs = logs(&shop, caller);
    shop.kubectl(&["rollout", "restart", "deployment/caller"]);
    shop.available("caller");
    let end = until("the end of the client's log", SOON, || {
        (!logs.is_running()).then(|| logs.output())
    });
    assert_nothing_was_lost(&summary(&end), &format!("{name}: the client went"));
    let begun = tokio::time::Instant::now();
    until("the client's pod is gone", Duration::from_secs(30), || {
        (!shop.try_kubectl(&["get", "pod", caller]).status.success()).then_some(())
    });
    println!(
        "{name}: gone {} s after the application's end",
        begun.elapsed().as_secs()
    );
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn rollouts_under_load_lose_no_call_with_native_sidecars() {
    rollouts_lose_nothing("weir-native", "a: b");
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn rollouts_under_load_lose_no_call_with_classic_sidecars() {
    rollouts_lose_nothing("weir-classic", "weir.dev/native: 'false'");
}
