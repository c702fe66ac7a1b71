//! `certs.mode` of the running release: changed, kept over upgrades, and changed back.

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SYSTEM, done, kubectl, kubectl_json, run_with_input};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::webhook::{dry_run, upgrade};

/// What Helm makes is in this one, and a person's own certificate in the other.
const HELM_SECRET: &str = "weir-injector-certs";
const OWN_SECRET: &str = "weir-own-certificate";

/// The default mode.
const SELF: &str = "certs.mode=self,certs.existing.secretName=,certs.existing.caBundle=";

/// In its own mode the injector wrote the bundle, so Helm has to be told to take it over.
const UPGRADE: [&str; 3] = ["--force-conflicts", "--wait", "--timeout=60s"];

/// Upgrades the release with this setting.
fn change(setting: &str) {
    let upgraded = upgrade(setting, &UPGRADE);
    assert!(upgraded.status.success(), "{setting}: {upgraded:?}");
}

/// The one CA by which the API server trusts the webhook.
fn bundle() -> String {
    let name = "mutatingwebhookconfiguration/weir-injector";
    let configuration = kubectl_json(&["get", name, "--output=json"]);
    let entries = configuration["webhooks"].as_array().expect("webhooks");
    let mut bundles: Vec<_> = entries
        .iter()
        .map(|entry| entry["clientConfig"]["caBundle"].clone())
        .collect();
    bundles.dedup();
    assert_eq!(bundles.len(), 1, "all entries have the same: {bundles:?}");
    let bundle = bundles[0].as_str().unwrap_or_default().to_owned();
    assert!(!bundle.is_empty(), "there is one");
    bundle
}

fn secret(name: &str) -> Value {
    let place = ["--namespace", SYSTEM, "get", "secret", name];
    kubectl_json(&[&place[..], &["--output=json"]].concat())["data"].clone()
}

/// Makes a person's own Secret of what another one has.
fn copy(data: &Value) {
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": OWN_SECRET, "namespace": SYSTEM},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": data["tls.crt"], "tls.key": data["tls.key"]},
    });
    let words = ["apply", "--filename", "-"];
    done(
        "a Secret",
        run_with_input("kubectl", &words, &manifest.to_string()),
    );
}

/// Puts the default back, whatever becomes of the test.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        let upgraded = upgrade(SELF, &UPGRADE);
        if !upgraded.status.success() {
            eprintln!("the certificates are not as they were: {upgraded:?}");
        }
        let place = ["--namespace", SYSTEM, "delete", "secret", OWN_SECRET];
        drop(kubectl(&[&place[..], &["--ignore-not-found"]].concat()));
    }
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn certificates_by_helm_are_kept_over_upgrades_and_may_become_ones_own() {
    let begun = Instant::now();
    let shop = Namespace::injected("weir-modes");
    let assert_injects = |when: &str| {
        let admitted = dry_run(&shop, &[]);
        assert!(
            admitted.status.success() && admitted.stdout.contains("weir-proxy"),
            "{when}: {admitted:?}"
        );
    };
    let by_itself = bundle();
    let back = Back;
    change("certs.mode=helm");
    let by_helm = bundle();
    assert_ne!(by_helm, by_itself);
    let made = secret(HELM_SECRET);
    assert_eq!(made["ca.crt"], by_helm, "the bundle is the Secret's CA");
    assert_injects("by Helm");

    change("certs.mode=helm");
    assert_eq!(bundle(), by_helm, "an upgrade keeps the CA");
    assert_eq!(secret(HELM_SECRET), made, "an upgrade keeps all of it");
    assert_injects("by Helm, upgraded");

    copy(&made);
    change(&format!(
        "certs.mode=existing,certs.existing.secretName={OWN_SECRET},certs.existing.caBundle={by_helm}"
    ));
    assert_eq!(bundle(), by_helm, "the one that was given");
    assert_injects("with a certificate of one's own");

    drop(back);
    assert_ne!(bundle(), by_helm, "the injector's own again");
    assert_injects("by itself again");
    println!(
        "self, helm, helm, existing and self in {} s",
        begun.elapsed().as_secs()
    );
}
