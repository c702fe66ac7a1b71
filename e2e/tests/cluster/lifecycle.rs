//! Pods come and go under load, and no call is lost.

use std::time::Duration;

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SOON, until};
use e2e::process::Process;
use serde_json::Value;

/// Who is called; stock by HTTP/1 and HTTP/2, ledger by gRPC. Both end their HTTP/2 connections with a GOAWAY.
const SERVERS: [&str; 2] = ["stock", "ledger"];

/// Who calls, and how.
const CALLERS: [(&str, &str); 3] = [
    ("http1", "--url, 'http://stock/stock/1'"),
    ("http2", "--url, 'http://stock/stock/1', --h2"),
    ("grpc", "--url, 'ledger:50051/shop.Ledger/Record', --grpc"),
];

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

/// `kubectl rollout restart` of Deployments, to its end.
fn restart(shop: &Namespace, deployments: &[&str]) {
    let targets: Vec<String> = deployments
        .iter()
        .map(|name| format!("deployment/{name}"))
        .collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    shop.kubectl(&[&["rollout", "restart"], &targets[..]].concat());
    for deployment in deployments {
        shop.available(deployment);
    }
}

/// Two pods of each server, and a pod of each caller: the callers' Deployments and pods.
fn under_load(shop: &Namespace, annotations: &str) -> Vec<(&'static str, String)> {
    shop.shop(&SERVERS);
    for server in SERVERS {
        shop.kubectl(&["scale", &format!("deployment/{server}"), "--replicas=2"]);
    }
    for server in SERVERS {
        shop.available(server);
    }
    for (caller, words) in CALLERS {
        // It goes on for three seconds after it is told to end.
        let words = format!("{words}, --rate, '60', --linger, 3s");
        shop.begin_callers(caller, 1, annotations, &words);
    }
    let pod = |(caller, _)| {
        shop.available(caller);
        (caller, shop.pod(&format!("app={caller}")))
    };
    CALLERS.into_iter().map(pod).collect()
}

/// The servers go one by one, then one of each is deleted outright.
fn servers_go(shop: &Namespace, callers: &[(&str, String)]) {
    restart(shop, &SERVERS);
    let victim = |server| {
        shop.pods(&format!("app={server}"))
            .pop()
            .expect("there are two")
    };
    let [stock, ledger] = SERVERS.map(victim);
    shop.kubectl(&["delete", "pod", &stock, &ledger, "--wait"]);
    for server in SERVERS {
        shop.available(server);
    }
    for (caller, pod) in callers {
        let what = format!("{}, {caller}: servers went", shop.name());
        assert_nothing_was_lost(&shop.summary(pod), &what);
        let parts = ["side=\"upstream\""];
        let closed = shop.metric(pod, "weir_connections_closed_total", &parts);
        assert!(closed > 0, "{what}, and its connections with them");
    }
}

/// The clients go: they call until their very end, and their sidecars serve them until then.
fn clients_go(shop: &Namespace, callers: &[(&str, String)]) {
    let mut all: Vec<_> = callers.iter().map(|(_, pod)| logs(shop, pod)).collect();
    restart(shop, &CALLERS.map(|(caller, _)| caller));
    for (logs, (caller, _)) in all.iter_mut().zip(callers) {
        let end = until("the end of the client's log", SOON, || {
            (!logs.is_running()).then(|| logs.output())
        });
        let what = format!("{}, {caller}: the client went", shop.name());
        assert_nothing_was_lost(&summary(&end), &what);
    }
    let begun = tokio::time::Instant::now();
    for (_, pod) in callers {
        until("the client's pod is gone", Duration::from_secs(30), || {
            (!shop.try_kubectl(&["get", "pod", pod]).status.success()).then_some(())
        });
    }
    println!(
        "{}: gone {} s after the applications' end",
        shop.name(),
        begun.elapsed().as_secs()
    );
}

fn rollouts_lose_nothing(name: &str, annotations: &str) {
    let shop = Namespace::injected(name);
    let callers = under_load(&shop, annotations);
    servers_go(&shop, &callers);
    clients_go(&shop, &callers);
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
