//! Pods that should have a sidecar and run without one.

use e2e::binaries;
use e2e::cluster::namespace::{Namespace, sleeper};
use e2e::cluster::{INJECT, SYSTEM, kubectl_ok, run_with_input};

/// What the audit says of the pods of a namespace, and its exit code: one line each, less what follows the code.
fn audit(namespace: &str) -> (Vec<String>, Option<i32>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("settings.yaml");
    let settings = kubectl_ok(&[
        "--namespace",
        SYSTEM,
        "get",
        "configmap",
        "weir-injector",
        "--output",
        r"jsonpath={.data.settings\.yaml}",
    ]);
    std::fs::write(&path, settings).expect("a temporary file");
    let all = [
        "get",
        "namespaces,pods",
        "--all-namespaces",
        "--output",
        "json",
    ];
    let path = path.to_str().expect("text");
    let words = ["audit", "--file", "-", "--config", path];
    let injector = binaries::weir_injector();
    let done = run_with_input(injector.to_str().expect("text"), &words, &kubectl_ok(&all));
    let of_namespace = done.stdout.lines().filter_map(|line| {
        let (pod, rest) = line.split_once(": ")?;
        let (code, _) = rest.split_once(": ")?;
        pod.starts_with(&format!("{namespace}/"))
            .then(|| format!("{pod}: {code}"))
    });
    (of_namespace.collect(), done.status.code())
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn the_audit_lists_the_pods_that_were_there_before_the_label() {
    let shop = Namespace::bare("weir-audit");
    shop.apply(&sleeper("early", "", ""));
    shop.wait_pod("early", "Ready");
    shop.label(INJECT);
    // What the API server makes of injected pods must not look like a sidecar of other settings.
    shop.shop(&["stock"]);
    shop.apply(&sleeper("late", "", ""));
    shop.apply(&sleeper(
        "env",
        "annotations: {weir.dev/interception: env}",
        "",
    ));
    shop.apply(&sleeper(
        "classic",
        "annotations: {weir.dev/native: 'false'}",
        "restartPolicy: Always",
    ));
    shop.apply(&sleeper("clash", "", "securityContext: {runAsUser: 19400}"));
    for pod in ["late", "env", "classic"] {
        shop.wait_pod(pod, "Ready");
    }
    let (found, code) = audit(shop.name());
    assert_eq!(
        found,
        [
            "weir-audit/clash: uid_clash",
            "weir-audit/early: not_injected"
        ]
    );
    assert_eq!(code, Some(1));
    shop.kubectl(&["delete", "pod", "early", "clash", "--wait"]);
    assert_eq!(audit(shop.name()).0, [""; 0]);
}
