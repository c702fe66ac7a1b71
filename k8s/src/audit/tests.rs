use serde_json::json;

use super::*;

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn pod(name: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        "status": {"phase": "Running"},
    })
}

fn with(mut pod: Value, pointer: &str, value: Value) -> Value {
    let (place, name) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(place).unwrap()[name] = value;
    pod
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn settings(text: &str) -> Settings {
    Settings::parse(text).unwrap()
}

fn codes(items: &[Value], text: &str) -> (usize, Vec<(String, &'static str)>) {
    let audit = audit(&list(items), &settings(text)).unwrap();
    let findings = audit.findings.into_iter();
    (
        audit.asked,
        findings
            .map(|finding| (finding.pod, finding.code))
            .collect(),
    )
}

/// The pod as the API server keeps it once it was injected.
fn injected(pod: &Value, facts: &Facts) -> Value {
    let settings = settings("");
    let Outcome::Injected { patch, .. } = inject(pod, facts, &settings).unwrap() else {
        panic!("not injected: {pod}")
    };
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[test]
fn pods_that_nobody_injected_are_found_by_the_labels_that_ask() {
    let enabled = json!({"weir.dev/inject": "enabled"});
    let labelled = |name, value| {
        with(
            pod(name),
            "/metadata/labels",
            json!({"weir.dev/inject": value}),
        )
    };
    let items = [
        namespace("shop", &enabled),
        namespace("quiet", &json!({})),
        namespace("never", &json!({"weir.dev/inject": "disabled"})),
        pod("shop/old"),
        labelled("shop/out", "disabled"),
        labelled("shop/out-too", "false"),
        with(pod("shop/done"), "/status/phase", json!("Succeeded")),
        with(
            pod("shop/going"),
            "/metadata/deletionTimestamp",
            json!("2026-01-31T12:00:00Z"),
        ),
        with(pod("shop/agent"), "/spec/hostNetwork", json!(true)),
        injected(&pod("shop/new"), &Facts::default()),
        pod("quiet/a"),
        labelled("quiet/asks", "enabled"),
        labelled("never/asks", "enabled"),
    ];
    let found = |pod: &str, code| (pod.to_owned(), code);
    assert_eq!(
        codes(&items, ""),
        (
            4,
            vec![
                found("shop/old", "not_injected"),
                found("shop/agent", "host_network_enabled"),
                found("quiet/asks", "not_injected"),
            ]
        )
    );
}

#[test]
fn sidecars_of_other_settings_are_found_too() {
    let items = [
        namespace("shop", &json!({"weir.dev/inject": "enabled"})),
        injected(&pod("shop/a"), &Facts::default()),
    ];
    assert_eq!(codes(&items, "").1, []);
    let stale = ("shop/a".to_owned(), "stale_injection");
    assert_eq!(codes(&items, "options: {log-level: debug}").1, [stale]);
}

#[test]
fn pod_security_is_read_from_the_namespace_as_the_webhook_does() {
    let labels =
        json!({"weir.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "restricted"});
    let facts = Facts {
        pod_security: PodSecurity::ForbidsNetAdmin,
        ..Facts::default()
    };
    let items = [
        namespace("strict", &labels),
        injected(&pod("strict/a"), &facts),
    ];
    assert_eq!(codes(&items, ""), (1, Vec::new()));
}

#[test]
fn lists_of_pods_are_read_as_the_api_server_prints_them() {
    let mut pod = pod("shop/a");
    let fields = pod.as_object_mut().unwrap();
    fields.remove("kind");
    fields.remove("apiVersion");
    let pods = json!({"apiVersion": "v1", "kind": "PodList", "items": [pod]});
    let items = [
        namespace("shop", &json!({"weir.dev/inject": "enabled"})),
        pods,
    ];
    assert_eq!(codes(&items, "").0, 1);
}

#[test]
fn an_input_that_says_too_little_is_refused() {
    for nothing in ["", "null", "[]", "42", "{kind: List}", "{kind: Deployment}"] {
        let error = audit(nothing, &settings("")).unwrap_err();
        assert!(matches!(error, AuditError::Nothing), "{nothing}: {error}");
    }
}

#[test]
fn what_is_no_pod_or_has_no_namespace_is_found_and_the_others_too() {
    let no_pod = with(pod("shop/a"), "/spec/containers", json!("none"));
    let items = [
        namespace("shop", &json!({"weir.dev/inject": "enabled"})),
        no_pod,
        pod("new/b"),
        pod("shop/c"),
    ];
    let found = |pod: &str, code| (pod.to_owned(), code);
    let expected = [
        found("shop/a", "unreadable"),
        found("new/b", "unreadable"),
        found("shop/c", "not_injected"),
    ];
    assert_eq!(codes(&items, ""), (3, expected.to_vec()));
}

#[test]
fn a_container_that_came_after_the_sidecar_is_told_from_a_pod_without_one() {
    let labels =
        json!({"weir.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "baseline"});
    let facts = Facts {
        pod_security: PodSecurity::ForbidsNetAdmin,
        ..Facts::default()
    };
    let mut late = injected(&pod("strict/a"), &facts);
    let containers = late["spec"]["containers"].as_array_mut().unwrap();
    containers.push(json!({"name": "late", "image": "late:1"}));
    let incomplete = ("strict/a".to_owned(), "incomplete");
    assert_eq!(
        codes(&[namespace("strict", &labels), late], ""),
        (1, vec![incomplete])
    );
}

#[test]
fn people_are_told_pod_by_pod_and_how_many_there_are() {
    let items = [
        namespace("shop", &json!({"weir.dev/inject": "enabled"})),
        pod("shop/a"),
        with(pod("shop/b"), "/spec/hostNetwork", json!(true)),
    ];
    let text = audit(&list(&items), &settings("")).unwrap().to_string();
    let lines: Vec<&str> = text.lines().collect();
    let [first, second, last] = lines[..] else {
        panic!("{text}")
    };
    assert!(first.starts_with("shop/a: not_injected: it was made before the label"));
    assert!(second.starts_with("shop/b: host_network_enabled: with hostNetwork"));
    assert_eq!(
        last,
        "0 of 2 pods that ask for the sidecar (weir.dev/inject) have it"
    );
}
