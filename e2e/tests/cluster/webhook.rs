//! The webhook: away, and with certificates that change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SOON, SYSTEM, helm, kubectl, kubectl_ok, run_with_input, until};
use e2e::process::Finished;
use tokio::time::Instant;

/// Where the injector keeps its own CA and certificate.
pub(crate) const SECRET: &str = "weir-injector-self-certs";
const DEPLOYMENT: &str = "deployment/weir-injector";
pub(crate) const POD: &str = "apiVersion: v1
kind: Pod
metadata: {generateName: burst-}
spec: {containers: [{name: app, image: 'registry.local/shop-go:1', args: [sleep]}]}
";

/// Asks the API server for a pod without making one.
pub(crate) fn dry_run(shop: &Namespace, more: &[&str]) -> Finished {
    let words = [
        "--namespace",
        shop.name(),
        "create",
        "--dry-run=server",
        "--output",
        "yaml",
        "--filename",
        "-",
    ];
    run_with_input("kubectl", &[&words[..], more].concat(), POD)
}

/// Takes all replicas of the webhook away, and waits until their pods are gone: one that ends still answers on connections
/// that it has.
fn take_away() {
    kubectl_ok(&["--namespace", SYSTEM, "scale", DEPLOYMENT, "--replicas=0"]);
    let selector = "app.kubernetes.io/component=injector";
    until("the webhook's pods are gone", SOON, || {
        let pods = kubectl_ok(&[
            "--namespace",
            SYSTEM,
            "get",
            "pods",
            "--selector",
            selector,
            "--output",
            "name",
        ]);
        pods.is_empty().then_some(())
    });
}

/// Changes a setting of the release, and keeps all others.
pub(crate) fn upgrade(setting: &str, more: &[&str]) -> Finished {
    let chart = e2e::binaries::repository().join("helm/weir");
    let words = [
        "upgrade",
        "weir",
        chart.to_str().expect("text"),
        "--namespace",
        SYSTEM,
        "--reuse-values",
        "--set",
        setting,
    ];
    helm(4, &[&words[..], more].concat())
}

/// Sets the failure policy, which also undoes the scaling: that made kubectl the owner of the replicas.
fn set_failure_policy(policy: &str) -> Finished {
    let setting = format!("injector.failurePolicy={policy}");
    upgrade(&setting, &["--force-conflicts"])
}

/// Puts the webhook back as it was, whatever becomes of the test.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        let upgraded = set_failure_policy("Fail");
        if !upgraded.status.success() {
            eprintln!("the webhook is not as it was: {upgraded:?}");
        }
        drop(kubectl(&[
            "--namespace",
            SYSTEM,
            "rollout",
            "status",
            DEPLOYMENT,
            "--timeout=60s",
        ]));
    }
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn without_a_webhook_fail_refuses_and_ignore_admits_as_it_is() {
    let shop = Namespace::injected("weir-away");
    let other = Namespace::bare("weir-elsewhere");
    let back = Back;
    take_away();
    let refused = dry_run(&shop, &[]);
    assert!(
        !refused.status.success() && refused.stderr.contains("namespace.weir.dev"),
        "{refused:?}"
    );
    let elsewhere = dry_run(&other, &[]);
    assert!(
        elsewhere.status.success(),
        "who did not ask never notices: {elsewhere:?}"
    );

    let upgraded = set_failure_policy("Ignore");
    assert!(upgraded.status.success(), "{upgraded:?}");
    take_away();
    let admitted = dry_run(&shop, &[]);
    assert!(
        admitted.status.success() && !admitted.stdout.contains("weir-proxy"),
        "{admitted:?}"
    );
    drop(back);
    until("the webhook answers again", SOON, || {
        let injected = dry_run(&shop, &[]);
        (injected.status.success() && injected.stdout.contains("weir-proxy")).then_some(())
    });
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn certificates_rotate_without_a_failed_admission() {
    let shop = Namespace::injected("weir-rotation");
    // Nothing while there is none.
    let leaf = || {
        let finished = kubectl(&[
            "--namespace",
            SYSTEM,
            "get",
            "secret",
            SECRET,
            "--output",
            "jsonpath={.data.tls\\.crt}",
        ]);
        finished.stdout
    };
    let before = leaf();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut count = 0;
            while !ended.load(Ordering::Relaxed) {
                let finished = dry_run(&shop, &[]);
                assert!(
                    finished.status.success() && finished.stdout.contains("weir-proxy"),
                    "after {count}: {finished:?}"
                );
                count += 1;
            }
            count
        });
        // First the leaf goes, then all of the Secret, CA and key with it.
        let patch =
            r#"[{"op":"remove","path":"/data/tls.crt"},{"op":"remove","path":"/data/tls.key"}]"#;
        let lose_leaf = [
            "--namespace",
            SYSTEM,
            "patch",
            "secret",
            SECRET,
            "--type=json",
            "--patch",
            patch,
        ];
        let lose_all = ["--namespace", SYSTEM, "delete", "secret", SECRET];
        let begun = Instant::now();
        for lose in [&lose_leaf[..], &lose_all] {
            let last = leaf();
            kubectl_ok(lose);
            until("another certificate", SOON, || {
                let now = leaf();
                (!now.is_empty() && now != last).then_some(())
            });
        }
        // Each replica looks every half a minute: by then both serve it.
        thread::sleep(Duration::from_secs(35));
        ended.store(true, Ordering::Relaxed);
        let count = asked.join().expect("no admission failed");
        println!(
            "a new certificate after {} s; {count} admissions meanwhile, none failed",
            begun.elapsed().as_secs()
        );
        assert!(count > 50);
    });
    assert!(
        !leaf().is_empty() && leaf() != before,
        "there is a new certificate"
    );
}
