//! Many pods at once: what the webhook adds to their creation.

use std::process::Command;

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{COMMAND, done, kubectl_ok};
use e2e::process;

use crate::webhook::POD;

/// So many creations, so many of them at a time: a controller has one connection and sends a batch over it.
const CREATIONS: usize = 200;
const AT_A_TIME: &str = "4";

/// A token that may create pods in `shop`.
fn token(shop: &Namespace) -> String {
    shop.kubectl(&["create", "serviceaccount", "burst"]);
    shop.kubectl(&[
        "create",
        "role",
        "burst",
        "--verb=create",
        "--resource=pods",
    ]);
    let name = format!("--serviceaccount={}:burst", shop.name());
    shop.kubectl(&["create", "rolebinding", "burst", "--role=burst", &name]);
    let token = shop.kubectl(&["create", "token", "burst"]);
    token.trim().to_owned()
}

/// Milliseconds of each creation, sorted. Nothing is made of them: they are dry runs.
fn creations(shop: &Namespace) -> Vec<f64> {
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
        .args([
            "--header",
            &format!("authorization: Bearer {}", token(shop)),
        ])
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

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_burst_of_200_pods_is_admitted_within_50_ms_each() {
    let without = creations(&Namespace::bare("weir-burst-bare"));
    let with = creations(&Namespace::injected("weir-burst"));
    let (p50, p99) = (CREATIONS / 2, CREATIONS * 99 / 100 - 1);
    println!(
        "200 creations, four at a time, whole requests: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms; without weir {:.1}, {:.1}, {:.1}",
        with[p50],
        with[p99],
        with[CREATIONS - 1],
        without[p50],
        without[p99],
        without[CREATIONS - 1],
    );
    assert!(with[p99] < 50.0, "p99 is {} ms", with[p99]);
}
