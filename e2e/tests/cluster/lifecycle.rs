//! Pods come and go under load, and no call is lost.

use std::time::Duration;

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SOON, until};
use e2e::process::Process;
use serde_json::Value;

/// A client that calls until its pod is told to end, goes on for three seconds more, and then says how it went.
fn client(shop: &Namespace, annotations: &str) {
    shop.apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: caller}}
spec:
  selector: {{matchLabels: {{app: caller}}}}
  template:
    metadata: {{labels: {{app: caller}}, annotations: {{{annotations}}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: app
        image: registry.local/shop-go:1
        imagePullPolicy: IfNotPresent
        args: [load, --url, 'http://stock/stock/1', --rate, '100', --seconds, '0', --concurrency, '50', --linger, 3s]
        ports: [{{containerPort: 9000}}]
        readinessProbe: {{httpGet: {{path: /ready, port: 9000}}, periodSeconds: 1}}
        securityContext: {{runAsUser: 1000}}
"
    ));
    shop.available("caller");
}

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
    client(&shop, annotations);
    let caller = shop.pod("app=caller");

    // The servers go, one by one, then one is deleted outright.
    shop.kubectl(&["rollout", "restart", "deployment/stock"]);
    shop.available("stock");
    let victim = shop.pods("app=stock").pop().expect("there are two");
    shop.kubectl(&["delete", "pod", &victim, "--wait"]);
    shop.available("stock");
    let servers = summary(&shop.ask(&caller, 9000, "/summary"));
    assert_nothing_was_lost(&servers, &format!("{name}: servers went"));

    // The client goes: it calls until its very end, and its sidecar serves it until then.
    let mut logs = logs(&shop, &caller);
    shop.kubectl(&["rollout", "restart", "deployment/caller"]);
    shop.available("caller");
    let end = until("the end of the client's log", SOON, || {
        (!logs.is_running()).then(|| logs.output())
    });
    assert_nothing_was_lost(&summary(&end), &format!("{name}: the client went"));
    let begun = tokio::time::Instant::now();
    until("the client's pod is gone", Duration::from_secs(30), || {
        (!shop.try_kubectl(&["get", "pod", &caller]).status.success()).then_some(())
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
