//! Pods that are left as they are, and what their owners are told.

use serde_json::{Value, json};

use super::*;

#[test]
fn what_cannot_be_injected_safely_says_why() {
    for (expected, parent, member, value) in changes() {
        let mut pod = pod();
        pod.pointer_mut(parent).unwrap()[member] = value.clone();
        let outcome = decide(&pod, &Facts::default());
        assert_eq!(outcome.code(), expected, "{parent}/{member}: {value}");
        // The API server cuts a warning there.
        assert!(outcome.texts().iter().all(|text| text.len() <= 256));
    }
}

/// What becomes of a pod of which this member of this parent is this.
fn changes() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let (labels, first) = ("/metadata", "/spec/containers/0");
    let init = "/spec/initContainers/0";
    let clash = json!({"runAsUser": 19400});
    vec![
        (
            "injection_disabled",
            labels,
            "labels",
            json!({"weir.dev/inject": "disabled"}),
        ),
        (
            "mirror_pod",
            "/metadata/annotations",
            "kubernetes.io/config.mirror",
            json!("x"),
        ),
        ("host_network_enabled", "/spec", "hostNetwork", json!(true)),
        ("windows_pod", "/spec", "os", json!({"name": "windows"})),
        (
            "windows_pod",
            "/spec",
            "nodeSelector",
            json!({"kubernetes.io/os": "windows"}),
        ),
        ("uid_clash", "/spec", "securityContext", clash.clone()),
        ("uid_clash", first, "securityContext", clash.clone()),
        ("uid_clash", init, "securityContext", clash),
        (
            "port_clash",
            first,
            "ports",
            json!([{"containerPort": 19402}]),
        ),
        ("sidecar_already_exists", first, "name", json!("weir-proxy")),
        (
            "sidecar_already_exists",
            init,
            "name",
            json!("weir-redirect"),
        ),
        (
            "sidecar_already_exists",
            "/spec",
            "volumes",
            json!([{"name": "weir-policy"}]),
        ),
        ("other_mesh", first, "name", json!("istio-proxy")),
        ("other_mesh", init, "name", json!("linkerd-init")),
        (
            "other_mesh",
            labels,
            "labels",
            json!({"sidecar.istio.io/inject": "true"}),
        ),
        (
            "other_mesh",
            "/metadata/annotations",
            "linkerd.io/inject",
            json!("enabled"),
        ),
        (
            "injected",
            labels,
            "labels",
            json!({"sidecar.istio.io/inject": "false"}),
        ),
        ("injected", first, "ports", json!([{"containerPort": 8080}])),
    ]
}

#[test]
fn a_pods_user_counts_only_where_a_container_has_none_of_its_own() {
    let mut pod = pod();
    pod["spec"]["securityContext"] = json!({"runAsUser": 19400});
    for list in ["containers", "initContainers"] {
        pod["spec"][list][0]["securityContext"] = json!({"runAsUser": 1000});
    }
    assert_eq!(code(&pod), "injected");
    pod["spec"]["containers"][0]["securityContext"] = Value::Null;
    assert_eq!(code(&pod), "uid_clash");
    // Without redirect rules it does not matter who calls.
    assert_eq!(decide(&pod, &forbidding()).code(), "injected");
    pod["metadata"]["annotations"]["weir.dev/proxy-uid"] = "19500".into();
    assert_eq!(code(&pod), "injected");
}

#[test]
fn users_of_a_platforms_range_clash_with_a_proxy_of_the_same_range() {
    // As OpenShift gives them: the first of the project's range to every container without one of its own.
    let first = 1_000_680_000_u32;
    let mut pod = annotated("proxy-uid", &first.to_string());
    pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": first});
    assert_eq!(code(&pod), "uid_clash");
    pod["metadata"]["annotations"]["weir.dev/proxy-uid"] = (first + 1).to_string().into();
    let (pod, _) = injected(&pod, &Facts::default());
    let proxy = &pod["spec"]["initContainers"][1];
    assert_eq!(proxy["securityContext"]["runAsUser"], first + 1);
    let args = pod["spec"]["initContainers"][0]["args"].to_string();
    assert!(args.contains("--proxy-uid=1000680001"), "{args}");
}

#[test]
fn a_classic_sidecar_is_not_put_into_what_is_to_end() {
    let mut pod = annotated("native", "false");
    pod["spec"]["restartPolicy"] = "Never".into();
    assert_eq!(code(&pod), "classic_job");
    pod["metadata"]["annotations"]["weir.dev/native"] = "true".into();
    assert_eq!(code(&pod), "injected");
}

#[test]
fn a_typo_is_told_and_a_wrong_value_leaves_the_pod_alone() {
    let (_, texts) = injected(&annotated("skip-ports", "3306"), &Facts::default());
    assert_eq!(
        texts,
        [
            "weir: unknown_annotation: weir.dev/skip-ports is unknown; nearest is weir.dev/skip-outbound-ports"
        ]
    );
    let (_, texts) = injected(&annotated("inject", "enabled"), &Facts::default());
    assert!(texts[0].contains("is a label"), "{texts:?}");
    let outcome = decide(
        &annotated("skip-outbound-ports", "mysql"),
        &Facts::default(),
    );
    assert_eq!(outcome.code(), "invalid_annotation");
    assert_eq!(
        outcome.texts(),
        [
            "weir: not injected (invalid_annotation): weir.dev/skip-outbound-ports: `mysql` is not a port like 3306, or a range like 9000-9100"
        ]
    );
    assert_eq!(
        code(&annotated("proxy-memory-request", "1Gi")),
        "invalid_annotation"
    );
}

#[test]
fn what_was_injected_with_other_settings_is_told_and_left_alone() {
    let (pod, _) = injected(&pod(), &Facts::default());
    let other = Settings::parse("image: weir:2").unwrap();
    let outcome = inject(&pod, &Facts::default(), &other).unwrap();
    assert_eq!(outcome.code(), "already_injected");
    assert!(outcome.texts()[0].contains("stale_injection"));
    let same = decide(&pod, &Facts::default());
    assert_eq!((same.code(), same.texts()), ("already_injected", vec![]));
}

#[test]
fn variables_of_other_settings_are_told_as_well() {
    let (pod, _) = injected(&pod(), &forbidding());
    let skips = "options: {skip-outbound-cidrs: 10.0.0.0/8}";
    let skips = Settings::parse(&format!("{SETTINGS}\n{skips}")).unwrap();
    let outcome = inject(&pod, &forbidding(), &skips).unwrap();
    assert!(outcome.texts()[0].contains("stale_injection"));
    let same = decide(&pod, &forbidding());
    assert_eq!((same.code(), same.texts()), ("already_injected", vec![]));
}
