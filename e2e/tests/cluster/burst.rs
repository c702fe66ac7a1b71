//! Many pods at once: what the webhook adds to their creation.

use std::process::Command;

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{COMMAND, SOON, SYSTEM, done, kubectl_json, kubectl_ok, until};
use e2e::process;

use crate::webhook::POD;

/// So many creations, so many of them at a time: a controller has one connection and sends a batch over it.
///
/// Two processors are all that client, API server and webhook have together: with 16 at a time, most of what a call takes is
/// that it waits for one.
const CREATIONS: usize = 200;
const AT_A_TIME: &str = "8";

/// Replicas of the webhook that are ready.
fn replicas() -> u64 {
    let words = ["--namespace", SYSTEM, "get", "deployment/weir-injector"];
    let found = kubectl_json(&[&words[..], &["--output=json"]].concat());
    found["status"]["readyReplicas"].as_u64().unwrap_or(0)
}

/// Waits until nothing of earlier tests is about to end: all that would take its share of the processors.
fn wait_for_quiet() {
    let words = ["get", "namespaces", "--output=name"];
    let ending = ["--field-selector=status.phase=Terminating"];
    until("the end of earlier namespaces", SOON, || {
        let names = kubectl_ok(&[&words[..], &ending].concat());
        names.is_empty().then_some(())
    });
}

/// A namespace with an account that may create pods in it.
struct Place {
    shop: Namespace,
    token: String,
}

impl Place {
    fn of(shop: Namespace) -> Self {
        shop.kubectl(&[
            "create",
            "role",
            "burst",
            "--verb=create",
            "--resource=pods",
        ]);
        let token = shop.account("burst", "burst");
        Self { shop, token }
    }
}

/// Milliseconds of each creation, sorted. Nothing is made of them: they are dry runs.
fn creations(place: &Place) -> Vec<f64> {
    let Place { shop, token } = place;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name| {
        let path = folder.path().join(name);
        path.to_str().expect("text").to_owned()
    };
    let (pod, log) = (path("pod.yaml"), path("log"));
    std::fs::write(&pod, POD).expect("a temporary file");
    let server = "jsonpath={.clusters[0].cluster.server}";
    let server = kubectl_ok(&["config", "view", "--minify", "--output", server]);
    let mut command = Command::new("h2load");
    command
        .args(["--clients=1", "--max-concurrent-streams", AT_A_TIME])
        .arg(format!("--requests={CREATIONS}"))
        .args(["--header", "content-type: application/yaml"])
        .args(["--header", &format!("authorization: Bearer {token}")])
        .args([format!("--data={pod}"), format!("--log-file={log}")])
        .arg(format!(
            "{server}/api/v1/namespaces/{}/pods?dryRun=All",
            shop.name()
        ));
    let output = done("h2load", process::run(&mut command, COMMAND));
    let log = std::fs::read_to_string(&log).expect("h2load wrote it");
    // A line each: when, status, microseconds.
    let mut times: Vec<f64> = log
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once('\t')?;
            let (status, micros) = rest.split_once('\t')?;
            let micros: f64 = micros.trim().parse().ok()?;
            (status == "201").then_some(micros / 1000.0)
        })
        .collect();
    assert_eq!(times.len(), CREATIONS, "all were admitted: {output}");
    times.sort_by(f64::total_cmp);
    times
}

/// How many calls of our webhooks took at most so many milliseconds, as the API server counts them, by that bound.
fn webhook_calls() -> Vec<(f64, f64)> {
    let metrics = kubectl_ok(&["get", "--raw", "/metrics"]);
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for line in metrics.lines().filter(|line| {
        line.starts_with("apiserver_admission_webhook_admission_duration_seconds_bucket{")
            && line.contains(".weir.dev\"")
    }) {
        let bound = line
            .split_once("le=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        let (bound, rest) = bound.expect("a bucket has a bound");
        let count = rest.rsplit(' ').next().and_then(|count| count.parse().ok());
        let bound = bound.parse::<f64>().expect("a number") * 1000.0;
        let count: f64 = count.expect("a number");
        match buckets
            .iter_mut()
            .find(|(known, _)| known.total_cmp(&bound).is_eq())
        {
            Some((_, sum)) => *sum += count,
            None => buckets.push((bound, count)),
        }
    }
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    buckets
}

/// The 99th percentile of what was counted between `before` and `after`, as Prometheus' `histogram_quantile` reads it.
fn p99(before: &[(f64, f64)], after: &[(f64, f64)]) -> f64 {
    let earlier = |bound: f64| {
        let known = before
            .iter()
            .find(|(known, _)| known.total_cmp(&bound).is_eq());
        known.map_or(0.0, |(_, count)| *count)
    };
    let counted = |&(bound, count): &(f64, f64)| (bound, count - earlier(bound));
    let (_, all) = after.last().map(counted).expect("buckets");
    assert!(all >= 200.0, "the webhook was asked {all} times");
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in after.iter().map(counted) {
        if count >= 0.99 * all {
            return lower + (bound - lower) * (0.99 * all - below) / (count - below);
        }
        (lower, below) = (bound, count);
    }
    lower
}

/// One burst: prints what it took, and answers with the webhook's 99th percentile.
fn burst(injected: &Place, bare: &Place) -> f64 {
    let without = creations(bare);
    let before = webhook_calls();
    let with = creations(injected);
    let webhook = p99(&before, &webhook_calls());
    let (p50, p99) = (CREATIONS / 2, CREATIONS * 99 / 100 - 1);
    // Its buckets end at 25 and at 100 ms. In between, what is sure is that the webhook took less than all of the request.
    let webhook = webhook.min(with[p99]);
    println!(
        "200 creations, {AT_A_TIME} at a time: the webhook's p99 {webhook:.1} ms by the API server's count; \
         whole requests p50 {:.1} ms, p99 {:.1} ms, without weir {:.1} and {:.1} ms",
        with[p50], with[p99], without[p50], without[p99],
    );
    webhook
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_burst_of_200_pods_waits_less_than_50_ms_for_the_webhook() {
    wait_for_quiet();
    let injected = Place::of(Namespace::injected("weir-burst"));
    let bare = Place::of(Namespace::bare("weir-burst-bare"));
    assert_eq!(replicas(), 2, "both are ready before");
    let webhook = burst(&injected, &bare);
    assert!(webhook < 50.0, "p99 is {webhook} ms");
    assert_eq!(replicas(), 2, "both are ready after");
}
