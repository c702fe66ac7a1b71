//! Policies of running pods: by ConfigMap, and pushed in steps that go back when calls fail.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SOON, run_with_input, until};
use e2e::process::{Finished, Process};

/// Pods that call over HTTP/2 all the time, each on one connection.
fn callers(shop: &Namespace, replicas: u32) -> Vec<String> {
    let words = "--url, 'http://stock/stock/1', --h2, --rate, '20'";
    shop.callers("caller", replicas, "a: b", words)
}

/// The revision in force, and where it came from.
fn revision(shop: &Namespace, pod: &str) -> (u64, String) {
    let status = shop.weirctl(pod, &["status"]);
    let policy = &status["policy"];
    let revision = policy["revision"]
        .as_u64()
        .unwrap_or_else(|| panic!("no revision in {status}"));
    (revision, policy["origin"].to_string())
}

fn push(shop: &Namespace, words: &[&str], policy: &str) -> Finished {
    let program = e2e::binaries::weirctl();
    let program = program.to_str().expect("text");
    let words = [
        &[
            "push",
            "--namespace",
            shop.name(),
            "--selector",
            "app=caller",
        ],
        words,
        &["-"],
    ]
    .concat();
    run_with_input(program, &words, policy)
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_config_map_reaches_running_pods() {
    let shop = Namespace::injected("weir-configmap");
    shop.shop(&["stock"]);
    let client = shop.client("");
    let built_in = revision(&shop, client);
    let write = |deadline: &str| shop.policy(&format!("defaults: {{deadline: {deadline}}}"));
    let deadline = || shop.weirctl(client, &["get"])["defaults"]["deadline"].clone();
    write("7s");
    let begun = tokio::time::Instant::now();
    until("the new ConfigMap", Duration::from_secs(100), || {
        (deadline() == "7s").then_some(())
    });
    println!(
        "a ConfigMap took {} s to a running pod",
        begun.elapsed().as_secs()
    );
    let first = revision(&shop, client);
    assert!(
        first.0 > built_in.0 && first.1.contains("file"),
        "{first:?}"
    );
    write("3 weeks and more");
    write("8s");
    until("its change", Duration::from_secs(100), || {
        (deadline() == "8s").then_some(())
    });
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_push_reaches_every_pod_and_breaks_no_connection() {
    let shop = Namespace::injected("weir-push");
    shop.shop(&["stock"]);
    let pods = callers(&shop, 4);
    let before: Vec<_> = pods.iter().map(|pod| revision(&shop, pod).0).collect();
    let connections =
        |pod: &str| shop.metric(pod, "weir_connections_closed_total", &["downstream"]);
    let closed: u64 = pods.iter().map(|pod| connections(pod)).sum();
    let done = push(
        &shop,
        &[
            "--canary",
            "25%",
            "--max-unavailable",
            "2",
            "--watch",
            "10s",
            "--wait",
            "--save",
        ],
        "version: weir/v1\ndefaults: {admission: {limit: 64}}\n",
    );
    assert!(done.status.success(), "{}{}", done.stdout, done.stderr);
    for (pod, before) in pods.iter().zip(before) {
        assert!(
            done.stdout.contains(pod.as_str()),
            "{pod} is in the table: {}",
            done.stdout
        );
        assert_eq!(revision(&shop, pod).0, before + 1, "{pod}");
        assert_eq!(
            shop.weirctl(pod, &["get"])["defaults"]["admission"]["limit"],
            64
        );
        let summary = shop.summary(pod);
        assert_eq!(summary["errors"], serde_json::json!({}), "{pod}: {summary}");
        assert_eq!(
            summary["status"]
                .as_object()
                .map(|all| all.keys().cloned().collect::<Vec<_>>()),
            Some(vec!["200".to_owned()]),
            "{pod}: {summary}"
        );
    }
    assert_eq!(
        pods.iter().map(|pod| connections(pod)).sum::<u64>(),
        closed,
        "no connection was closed for it"
    );
    let saved = shop.get(&["configmap", "weir-policy"]);
    assert!(
        saved["data"]["policy.yaml"]
            .as_str()
            .is_some_and(|text| text.contains("64")),
        "{saved}"
    );

    let again = push(
        &shop,
        &["--wait"],
        "version: weir/v1\ndefaults: {admission: {limit: 64}}\n",
    );
    assert!(
        again.status.success() && again.stdout.contains("unchanged"),
        "{again:?}"
    );
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_push_that_makes_calls_fail_goes_back_after_its_canary() {
    let shop = Namespace::injected("weir-canary");
    shop.shop(&["stock"]);
    let pods = callers(&shop, 4);
    let stock = shop.pod("app=stock");
    shop.ask(&stock, 9000, "/fault?delay=200ms");
    let before: Vec<_> = pods.iter().map(|pod| revision(&shop, pod).0).collect();
    // 20 calls a second of 200 ms each are four at a time; one is allowed, and none may wait.
    let done = push(
        &shop,
        &["--canary", "1", "--watch", "15s", "--wait"],
        "version: weir/v1\ndefaults: {admission: {limit: 1, queue: {length: 1}}}\n",
    );
    let text = format!("{}{}", done.stdout, done.stderr);
    assert!(!done.status.success(), "{text}");
    assert!(text.contains("rolled back"), "{text}");
    let touched = pods
        .iter()
        .zip(&before)
        .filter(|(pod, before)| revision(&shop, pod).0 != **before);
    assert_eq!(touched.count(), 1, "only the canary saw it: {text}");
    for pod in &pods {
        assert_ne!(
            shop.weirctl(pod, &["get"])["defaults"]["admission"]["limit"],
            1,
            "{pod} has the old policy: {text}"
        );
    }
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_canary_that_is_deleted_while_it_is_watched_is_no_proof() {
    let shop = Namespace::injected("weir-deleted");
    shop.shop(&["stock"]);
    callers(&shop, 2);
    let mut policy = tempfile::NamedTempFile::new().expect("a temporary file");
    policy
        .write_all(b"version: weir/v1\ndefaults: {admission: {limit: 64}}\n")
        .expect("a temporary file");
    let mut command = Command::new(e2e::binaries::weirctl());
    command
        .args([
            "push",
            "--namespace",
            shop.name(),
            "--selector",
            "app=caller",
        ])
        .args(["--canary", "1", "--watch", "8s", "--save"])
        .arg(policy.path());
    let mut push = Process::spawn("push", &mut command);
    push.line_after("watching for", SOON);
    shop.kubectl(&["delete", "pods", "--selector", "app=caller", "--wait=false"]);
    let status = push.wait(SOON);
    let text = push.output();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(
        text.contains("no pod of this batch is left") && text.contains("not reached"),
        "{text}"
    );
    let saved = shop.try_kubectl(&["get", "configmap", "weir-policy"]);
    assert!(!saved.status.success(), "nothing is saved: {saved:?}");
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_wrong_document_touches_nobody_and_one_pod_is_reached_by_its_name() {
    let shop = Namespace::injected("weir-one");
    shop.shop(&["stock"]);
    let pods = callers(&shop, 1);
    let pod = format!("{}/{}", shop.name(), pods[0]);
    let before = revision(&shop, &pods[0]);
    let wrong = push(
        &shop,
        &[],
        "version: weir/v1\ndefaults: {retry: {attempts: 0}}\n",
    );
    let text = format!("{}{}", wrong.stdout, wrong.stderr);
    assert!(
        !wrong.status.success() && text.contains("/defaults/retry/attempts"),
        "{text}"
    );
    assert_eq!(revision(&shop, &pods[0]), before);

    for (words, expected) in [
        (["--pod", &pod, "status"], "revision"),
        (["--pod", &pod, "destinations"], "stock"),
        (["--pod", &pod, "history"], "built"),
    ] {
        let done = e2e::cluster::weirctl(&words);
        assert!(
            done.status.success() && done.stdout.contains(expected),
            "{words:?}: {done:?}"
        );
    }
    let stale = run_with_input(
        e2e::binaries::weirctl().to_str().expect("text"),
        &["--pod", &pod, "apply", "--if-match", "999", "-"],
        "version: weir/v1\n",
    );
    assert!(
        !stale.status.success(),
        "a stale revision is refused: {stale:?}"
    );
    let plain = shop.pod("app=stock");
    let system = e2e::cluster::weirctl(&["--pod", &format!("kube-system/{plain}"), "status"]);
    assert!(!system.status.success(), "{system:?}");
    until("the callers still call", SOON, || {
        shop.summary(&pods[0])["sent"]
            .as_u64()
            .is_some_and(|sent| sent > 20)
            .then_some(())
    });
}
