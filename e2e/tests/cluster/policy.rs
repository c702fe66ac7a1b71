//! Policies of running pods: by ConfigMap, and pushed in steps that go back when calls fail.

mod rights;

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SOON, run_with_input, until};
use e2e::process::{Finished, Process};
use serde_json::{Value, json};

/// Longest until a ConfigMap's change is in a pod: the kubelet looks about once a minute.
const SYNC: Duration = Duration::from_secs(100);

/// Pods that call over HTTP/2 all the time, each on one connection.
fn callers(shop: &Namespace, replicas: u32) -> Vec<String> {
    let words = "--url, 'http://stock/stock/1', --h2, --rate, '20', --count-header, x-weir-shed";
    shop.callers("caller", replicas, "a: b", words)
}

/// Callers whose connections are to outlive what is done to their policy, and whose calls are all to be answered.
struct Live<'a> {
    shop: &'a Namespace,
    pods: &'a [String],
    closed: u64,
}

impl<'a> Live<'a> {
    /// From now on.
    fn of(shop: &'a Namespace, pods: &'a [String]) -> Self {
        let parts = ["side=\"downstream\"", "protocol=\"http2\""];
        for pod in pods {
            until("each calls over its one connection", SOON, || {
                (shop.metric(pod, "weir_connections_active", &parts) == 1).then_some(())
            });
        }
        let closed = closed(shop, pods);
        Self { shop, pods, closed }
    }

    /// None of their connections was closed since.
    fn assert_connected(&self) {
        let now = closed(self.shop, self.pods);
        assert_eq!(now, self.closed, "no connection was closed for it");
    }

    /// All calls that one of them ever made were answered well.
    fn assert_served(&self, pod: &str) {
        let summary = self.shop.summary(pod);
        assert_eq!(summary["errors"], json!({}), "{pod}: {summary}");
        assert_eq!(statuses(&summary), ["200"], "{pod}: {summary}");
    }

    /// All calls that one of them ever made were answered, some of them by weir's refusal with its reason.
    fn assert_answered(&self, pod: &str) {
        let summary = self.shop.summary(pod);
        assert_eq!(summary["errors"], json!({}), "{pod}: {summary}");
        assert_eq!(statuses(&summary), ["200", "503"], "{pod}: {summary}");
        let reasons = summary["headers"].as_object().into_iter().flatten();
        let refused: u64 = reasons.filter_map(|(_, count)| count.as_u64()).sum();
        assert_eq!(summary["status"]["503"], refused, "{pod}: {summary}");
    }

    /// From now on all of them are served: whoever called into the wrong policy is let go of.
    fn assert_served_again(&self) {
        for pod in self.pods {
            self.shop.ask(pod, 9000, "/reset");
        }
        for pod in self.pods {
            until("further calls", SOON, || {
                let ok = self.shop.summary(pod)["ok"].as_u64();
                ok.filter(|ok| *ok > 40)
            });
            self.assert_served(pod);
        }
    }
}

/// Connections of applications that have ended.
fn closed(shop: &Namespace, pods: &[String]) -> u64 {
    let parts = ["side=\"downstream\""];
    pods.iter()
        .map(|pod| shop.metric(pod, "weir_connections_closed_total", &parts))
        .sum()
}

/// The statuses of a load's answers.
fn statuses(summary: &Value) -> Vec<&str> {
    let all = summary["status"].as_object().expect("statuses");
    all.keys().map(String::as_str).collect()
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
fn a_config_map_reaches_running_pods_unless_it_is_wrong() {
    let shop = Namespace::injected("weir-configmap");
    let client = shop.client("");
    let built_in = revision(&shop, client);
    let write = |deadline: &str| shop.policy(&format!("defaults: {{deadline: {deadline}}}"));
    // The kubelet looks at the volumes of a pod once a minute or so, and at once when the pod changes.
    let look = |number: &str| {
        let change = format!("look={number}");
        shop.kubectl(&["annotate", "pod", client, &change, "--overwrite"]);
    };
    let deadline = || shop.weirctl(client, &["get"])["defaults"]["deadline"].clone();
    write("7s");
    let begun = tokio::time::Instant::now();
    until("the new ConfigMap", SYNC, || {
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
    look("first");
    let refused = until("the refusal of a wrong one", SYNC, || {
        let policy = shop.weirctl(client, &["status"])["policy"].clone();
        policy["lastRejection"].is_object().then_some(policy)
    });
    let why = refused["lastRejection"]["detail"].as_str().expect("text");
    assert!(why.contains("/defaults/deadline"), "{refused}");
    assert_eq!(refused["lastRejection"]["origin"], "file", "{refused}");
    assert_eq!(revision(&shop, client), first, "the old one is in force");
    assert_eq!(deadline(), "7s");

    write("8s");
    look("second");
    until("the right one after it", SYNC, || {
        (deadline() == "8s").then_some(())
    });
    assert_eq!(revision(&shop, client).0, first.0 + 1);
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_push_reaches_every_pod_and_breaks_no_connection() {
    let shop = Namespace::injected("weir-push");
    shop.shop(&["stock"]);
    let pods = callers(&shop, 4);
    let before: Vec<_> = pods.iter().map(|pod| revision(&shop, pod).0).collect();
    let live = Live::of(&shop, &pods);
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
        live.assert_served(pod);
    }
    live.assert_connected();
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
    let live = Live::of(&shop, &pods);
    // 20 calls a second of 200 ms each are four at a time; one is allowed, and none may wait.
    let done = push(
        &shop,
        &["--canary", "1", "--watch", "15s", "--wait"],
        "version: weir/v1\ndefaults: {admission: {limit: 1, queue: {length: 1}}}\n",
    );
    let text = format!("{}{}", done.stdout, done.stderr);
    assert!(!done.status.success(), "{text}");
    assert!(text.contains("rolled back"), "{text}");
    live.assert_connected();
    let mut canaries = 0;
    for (pod, before) in pods.iter().zip(&before) {
        assert_ne!(
            shop.weirctl(pod, &["get"])["defaults"]["admission"]["limit"],
            1,
            "{pod} has the old policy: {text}"
        );
        if revision(&shop, pod).0 == *before {
            live.assert_served(pod);
        } else {
            canaries += 1;
            live.assert_answered(pod);
        }
    }
    assert_eq!(canaries, 1, "only the canary saw it: {text}");
    live.assert_served_again();
    live.assert_connected();
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
