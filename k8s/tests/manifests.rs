//! `weir-injector inject` on manifests as people have them. `.ci/run helm` validates what comes out by the real schemas.
//!
//! `UPDATE_EXPECT=1 cargo test --package k8s --test manifests` writes `injected/` anew.

use std::path::Path;
use std::process::{Command, Output};

use expect_test::{expect, expect_file};

fn inject(name: &str, arguments: &[&str]) -> std::io::Result<Output> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    Command::new(env!("CARGO_BIN_EXE_weir-injector"))
        .args(["inject", "--config"])
        .arg(tests.join("settings.yaml"))
        .arg("--file")
        .arg(tests.join("manifests").join(name))
        .args(arguments)
        .output()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_deployment_gets_a_native_sidecar_and_its_neighbours_stay_as_they_are() {
    let done = inject("deployment.yaml", &[]).unwrap();
    expect![["Deployment/cart: injected\n"]].assert_eq(&text(&done.stderr));
    expect_file!["injected/deployment.yaml"].assert_eq(&text(&done.stdout));
}

#[test]
fn a_classic_sidecar_by_annotation() {
    let done = inject("classic.yaml", &[]).unwrap();
    expect![["StatefulSet/ledger: injected\n"]].assert_eq(&text(&done.stderr));
    expect_file!["injected/classic.yaml"].assert_eq(&text(&done.stdout));
}

#[test]
fn a_restricted_namespace_gets_the_explicit_proxy() {
    let done = inject("restricted.yaml", &["--pod-security", "restricted"]).unwrap();
    expect![[r"
        CronJob/report: injected
        CronJob/report: weir: psa_forbids_net_admin: the namespace's Pod Security forbids NET_ADMIN, so calls are taken by HTTP_PROXY instead of redirect rules; clients that ignore it bypass weir
        CronJob/report: weir: proxy_variable_kept: report has HTTP_PROXY of its own; calls that follow it bypass weir
    "]].assert_eq(&text(&done.stderr));
    expect_file!["injected/restricted.yaml"].assert_eq(&text(&done.stdout));
}

#[test]
fn a_pod_proves_rules_that_something_else_installs() {
    let done = inject("verified.yaml", &["--pod-security", "restricted"]).unwrap();
    expect![["Deployment/cart: injected\n"]].assert_eq(&text(&done.stderr));
    expect_file!["injected/verified.yaml"].assert_eq(&text(&done.stdout));
}

#[test]
fn what_cannot_be_injected_comes_out_as_it_went_in_and_says_why() {
    let done = inject("untouched.yaml", &[]).unwrap();
    assert!(done.status.success());
    expect![[r#"
        DaemonSet/node-agent: host_network_enabled
        DaemonSet/node-agent: weir: not injected (host_network_enabled): with hostNetwork the rules would redirect the node's connections
        Pod/same-user: uid_clash
        Pod/same-user: weir: not injected (uid_clash): app runs as user 19400, the proxy's own, so its calls would bypass weir; annotate weir.dev/proxy-uid with another
        Pod/typo: invalid_annotation
        Pod/typo: weir: not injected (invalid_annotation): weir.dev/skip-outbound-ports: `mysql` is not a port like 3306, or a range like 9000-9100
        Pod/meshed: other_mesh
        Pod/meshed: weir: not injected (other_mesh): the pod is in Istio's mesh; two meshes would redirect each other. Take it out of one of them
        Job/classic: classic_job
        Job/classic: weir: not injected (classic_job): a classic sidecar never ends, and the pod would not either; annotate weir.dev/native: "true" (Kubernetes 1.29)
    "#]].assert_eq(&text(&done.stderr));
    expect_file!["manifests/untouched.yaml"].assert_eq(&text(&done.stdout));
}

#[test]
fn a_manifest_that_cannot_be_read_yields_nothing() {
    let done = inject("absent.yaml", &[]).unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(done.stdout.is_empty());
    assert!(text(&done.stderr).contains("absent.yaml: No such file"));
}
