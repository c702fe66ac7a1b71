//! Reviews as an API server sends them, and the pods that come of the answers.
//!
//! `UPDATE_EXPECT=1 cargo test --package k8s --test reviews` writes `injected/` anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and its helpers are tests too"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use expect_test::{Expect, expect, expect_file};
use json_patch::Patch;
use k8s::inject::PodSecurity;
use k8s::review;
use k8s::settings::Settings;
use serde_json::Value;

/// What the API server would make of the answer: the pod, and what it would say.
fn admitted(name: &str, pod_security: PodSecurity) -> (Value, String) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let settings = fs::read_to_string(tests.join("settings.yaml")).unwrap();
    let body = fs::read(tests.join("reviews").join(name)).unwrap();
    let settings = Settings::parse(&settings).unwrap();
    let reviewed = review::answer(&body, pod_security, &settings).unwrap();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let mut pod = review["request"]["object"].clone();
    let response = &reviewed.answer["response"];
    assert_eq!(response["uid"], review["request"]["uid"]);
    assert_eq!(response["allowed"], true);
    if let Some(patch) = response["patch"].as_str() {
        let patch = STANDARD.decode(patch).unwrap();
        let patch: Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    let mut said = format!("{}\n", reviewed.code);
    for warning in response["warnings"].as_array().into_iter().flatten() {
        writeln!(said, "{}", warning.as_str().unwrap()).unwrap();
    }
    (pod, said)
}

#[track_caller]
fn check(name: &str, pod_security: PodSecurity, said: &Expect) {
    let (pod, words) = admitted(&format!("{name}.json"), pod_security);
    said.assert_eq(&words);
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/injected")
        .join(format!("{name}.json"));
    expect_file![snapshot].assert_eq(&format!("{pod:#}\n"));
}

#[test]
fn a_deployments_pod() {
    check(
        "replica",
        PodSecurity::AllowsNetAdmin,
        &expect![[r"
        injected
    "]],
    );
}

#[test]
fn a_deployments_pod_in_a_restricted_namespace() {
    check(
        "restricted-replica",
        PodSecurity::ForbidsNetAdmin,
        &expect![[r"
            injected
            weir: psa_forbids_net_admin: the namespace's Pod Security forbids NET_ADMIN, so calls are taken by HTTP_PROXY instead of redirect rules; clients that ignore it bypass weir
        "]],
    );
}

#[test]
fn a_stateful_sets_pod_with_every_annotation_and_a_typo() {
    check(
        "annotated",
        PodSecurity::AllowsNetAdmin,
        &expect![[r"
        injected
        weir: unknown_annotation: weir.dev/opaque-port is unknown; nearest is weir.dev/opaque-ports
    "]],
    );
}

#[test]
fn a_node_agents_pod_stays_as_it_is() {
    check(
        "host-network",
        PodSecurity::AllowsNetAdmin,
        &expect![[r"
        host_network_enabled
        weir: not injected (host_network_enabled): with hostNetwork the rules would redirect the node's connections
    "]],
    );
}

#[test]
fn a_pod_that_was_injected_stays_as_it_is_when_it_is_reviewed_again() {
    let (pod, _) = admitted("replica.json", PodSecurity::AllowsNetAdmin);
    let review = serde_json::json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "again", "operation": "CREATE", "kind": {"kind": "Pod"}, "object": defaulted(pod)},
    });
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let settings = fs::read_to_string(tests.join("settings.yaml")).unwrap();
    let settings = Settings::parse(&settings).unwrap();
    let body = review.to_string();
    let reviewed = review::answer(body.as_bytes(), PodSecurity::AllowsNetAdmin, &settings).unwrap();
    assert_eq!(reviewed.code, "already_injected");
    assert_eq!(reviewed.answer["response"]["warnings"], Value::Null);
}

/// The API server fills in defaults between two reviews.
fn defaulted(mut pod: Value) -> Value {
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().unwrap() {
            container["terminationMessagePath"] = "/dev/termination-log".into();
        }
    }
    pod["spec"]["volumes"][0]["projected"]["defaultMode"] = 420.into();
    pod
}
