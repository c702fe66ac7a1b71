use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn run(text: &str) -> Manifest {
    inject_manifest(text, PodSecurity::AllowsNetAdmin, &settings()).unwrap()
}

fn settings() -> Settings {
    Settings::parse("image: weir:1").unwrap()
}

#[test]
fn what_gets_no_sidecar_comes_out_byte_for_byte() {
    let text = "# kept\n---\nkind: Service   # kept\nspec: {ports: [0x50]}\n---\n\n--- # kept\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true,   containers: [{name: a}]}\n...\n";
    let manifest = run(text);
    assert_eq!(manifest.text, text);
    assert_eq!(manifest.notes.len(), 2, "{:?}", manifest.notes);
    assert_eq!(manifest.notes[0], "Pod/a: host_network_enabled");
}

#[test]
fn every_kind_with_pods_is_injected_and_nothing_else() {
    for (api, kind, place) in [
        ("v1", "Pod", ""),
        ("v1", "ReplicationController", "/spec/template"),
        ("apps/v1", "Deployment", "/spec/template"),
        ("apps/v1", "StatefulSet", "/spec/template"),
        ("apps/v1", "DaemonSet", "/spec/template"),
        ("apps/v1", "ReplicaSet", "/spec/template"),
        ("batch/v1", "Job", "/spec/template"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ] {
        let pod = json!({"spec": {"containers": [{"name": "app"}]}});
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "shop"}});
        match place {
            "" => object["spec"] = pod["spec"].clone(),
            "/spec/template" => object["spec"] = json!({"template": pod}),
            _ => object["spec"] = json!({"jobTemplate": {"spec": {"template": pod}}}),
        }
        let manifest = run(&object.to_string());
        let injected: Value = serde_json::from_str(&manifest.text).unwrap();
        let init = injected.pointer(place).unwrap()["spec"]["initContainers"].clone();
        assert_eq!(init[1]["name"], "weir-proxy", "{kind}");
        let env = init[1]["env"].as_array().unwrap();
        let service = json!({"name": "OTEL_SERVICE_NAME", "value": "shop"});
        assert!(env.contains(&service), "{kind}");
        object["apiVersion"] = "example.com/v1".into();
        let text = object.to_string();
        assert_eq!(run(&text).text, text, "{kind}");
    }
}

#[test]
fn lists_are_injected_item_by_item() {
    let list = json!({"kind": "List", "apiVersion": "v1", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}},
    ]});
    let injected: Value = serde_json::from_str(&run(&list.to_string()).text).unwrap();
    assert!(injected["items"][0]["spec"]["initContainers"].is_array());
    assert_eq!(injected["items"][1], list["items"][1]);
}

#[test]
fn a_workload_that_is_labelled_is_left_alone() {
    let text = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, labels: {weir.dev/inject: disabled}}, spec: {template: {spec: {}}}}";
    let manifest = run(text);
    assert_eq!(manifest.text, text);
    assert_eq!(manifest.notes, ["Deployment/a: injection_disabled"]);
}

#[test]
fn what_cannot_be_read_is_named_by_its_place() {
    let error = |text: &str| {
        inject_manifest(text, PodSecurity::AllowsNetAdmin, &settings())
            .unwrap_err()
            .to_string()
    };
    expect!["document 2: did not find expected ',' or ']' at line 3 column 1, while parsing a flow sequence at line 2 column 4"]
        .assert_eq(&error("a: 1\n---\nb: [1\n"));
    expect!["document 1: Pod/p: invalid type: string \"yes\", expected a boolean"].assert_eq(
        &error("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {hostNetwork: yes}}"),
    );
}

#[test]
fn to_inject_a_manifest_twice_changes_nothing() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: a}]}\n";
    let once = run(text);
    let twice = run(&once.text);
    assert_eq!(twice.text, once.text);
    assert_eq!(twice.notes, ["Pod/p: already_injected"]);
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~\n\t]{0,12}",
        "\\PC{0,6}",
        "[a-z]{1,4}(\n[a-z ]{0,4}){1,3}",
        Just("yes".to_owned()),
        Just("1_000".to_owned()),
        Just("~".to_owned()),
        Just("<<".to_owned()),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((text.clone(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(value in any_value()) {
        let mut text = String::new();
        write::yaml(&value, &mut text);
        let read: Value = serde_yaml_ng::from_str(&text).unwrap();
        prop_assert_eq!(read, value, "{}", text);
    }
}
