//! The chart's own life: install, test, upgrade, rollback, uninstall, by both Helms, and nothing is left.

mod certificates;
mod rights;

use std::thread::sleep;
use std::time::Duration;

use e2e::binaries;
use e2e::cluster::{SOON, helm, kubectl, kubectl_json, kubectl_ok};
use tokio::time::Instant;

const RELEASE: &str = "weir-second";

/// Every object in the cluster that carries the release's label, or is of its namespace and of its or Helm's name.
fn objects() -> Vec<String> {
    let kinds = kubectl_ok(&["api-resources", "--verbs=list", "--output", "name"]);
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| !kind.starts_with("events"))
        .collect();
    let selector = format!("app.kubernetes.io/instance={RELEASE}");
    let labelled = kubectl_ok(&[
        "get",
        &kinds.join(","),
        "--all-namespaces",
        "--selector",
        &selector,
        "--output",
        "name",
        "--ignore-not-found",
    ]);
    let named = kubectl_ok(&[
        "--namespace",
        RELEASE,
        "get",
        "secrets,configmaps,leases",
        "--output",
        "name",
    ]);
    let named = named
        .lines()
        .filter(|name| name.contains("weir") || name.contains("helm"));
    labelled.lines().chain(named).map(str::to_owned).collect()
}

/// Takes the release away, whatever became of the test: its webhook would be in the way of others.
struct Release(u8);

impl Drop for Release {
    fn drop(&mut self) {
        drop(helm(
            self.0,
            &[
                "uninstall",
                RELEASE,
                "--namespace",
                RELEASE,
                "--ignore-not-found",
            ],
        ));
        drop(kubectl(&[
            "delete",
            "namespace",
            RELEASE,
            "--ignore-not-found",
            "--wait=false",
        ]));
    }
}

fn life(major: u8) {
    let chart = binaries::repository().join("helm/weir");
    let chart = chart.to_str().expect("text");
    let values = binaries::repository().join("e2e/cluster/values.yaml");
    let values = values.to_str().expect("text");
    let ok = |words: &[&str]| {
        let finished = helm(major, words);
        assert!(
            finished.status.success(),
            "helm{major} {words:?}: {finished:?}"
        );
        finished.stdout
    };
    let _release = Release(major);
    let place = ["--namespace", RELEASE, "--wait", "--timeout", "90s"];
    let install = [
        "install",
        RELEASE,
        chart,
        "--create-namespace",
        "--values",
        values,
    ];
    let notes = ok(&[&install[..], &place].concat());
    assert!(
        notes.contains("weir.dev/inject=enabled"),
        "the next command is named: {notes}"
    );
    ok(&["test", RELEASE, "--namespace", RELEASE, "--timeout", "60s"]);
    let upgrade = [
        "upgrade",
        RELEASE,
        chart,
        "--values",
        values,
        "--set",
        "injector.replicas=1,proxy.options.log-level=warn",
    ];
    ok(&[&upgrade[..], &place].concat());
    ok(&["test", RELEASE, "--namespace", RELEASE, "--timeout", "60s"]);
    ok(&[&["rollback", RELEASE, "1"], &place[..]].concat());
    let deployment = kubectl_json(&[
        "--namespace",
        RELEASE,
        "get",
        "deployment",
        &format!("{RELEASE}-injector"),
        "--output",
        "json",
    ]);
    assert_eq!(
        deployment["spec"]["replicas"], 2,
        "the rollback is in force"
    );
    ok(&["test", RELEASE, "--namespace", RELEASE, "--timeout", "60s"]);
    assert!(objects().len() > 5, "what there is is found");
    ok(&["uninstall", RELEASE, "--namespace", RELEASE, "--wait"]);
    // Pods that are ending are still there for a moment.
    let begun = Instant::now();
    while !objects().is_empty() && begun.elapsed() < SOON {
        sleep(Duration::from_secs(1));
    }
    assert_eq!(
        objects(),
        Vec::<String>::new(),
        "what is left of the release"
    );
    kubectl_ok(&["delete", "namespace", RELEASE, "--wait", "--timeout=90s"]);
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn helm_3_installs_upgrades_rolls_back_and_leaves_nothing() {
    life(3);
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn helm_4_installs_upgrades_rolls_back_and_leaves_nothing() {
    life(4);
}
