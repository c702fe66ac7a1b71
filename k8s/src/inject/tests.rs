use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn settings() -> Settings {
    Settings::parse("image: weir:1\notlp: {endpoint: 'http://otel.obs:4317'}").unwrap()
}

fn decide(pod: &Value, facts: &Facts) -> Outcome {
    inject(pod, facts, &settings()).unwrap()
}

fn forbidding() -> Facts {
    Facts {
        pod_security: PodSecurity::ForbidsNetAdmin,
        ..Facts::default()
    }
}

/// The pod after its injection, with what its owner was told.
fn injected(pod: &Value, facts: &Facts) -> (Value, Vec<String>) {
    let outcome = decide(pod, facts);
    let texts = outcome.texts();
    let Outcome::Injected { patch, .. } = outcome else {
        panic!("skipped: {texts:?}");
    };
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    (pod, texts)
}

fn code(pod: &Value) -> &'static str {
    decide(pod, &Facts::default()).code()
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let list = pod["spec"][list].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    list.iter().map(name).collect()
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let env = container["env"].as_array()?;
    env.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "cart", "annotations": {}},
        "spec": {
            "initContainers": [{"name": "migrate", "image": "m"}],
            "containers": [{"name": "app", "image": "a", "env": [{"name": "A", "value": "1"}]}],
        },
    })
}

/// [`pod`] with an annotation of ours.
fn annotated(name: &str, value: &str) -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"][format!("weir.dev/{name}")] = value.into();
    pod
}

#[test]
fn a_native_sidecar_comes_before_the_pods_own_init_containers() {
    let (pod, texts) = injected(&pod(), &Facts::default());
    assert_eq!(
        names(&pod, "initContainers"),
        ["weir-redirect", "weir-proxy", "migrate"]
    );
    assert_eq!(names(&pod, "containers"), ["app"]);
    assert_eq!(pod["spec"]["initContainers"][1]["restartPolicy"], "Always");
    assert_eq!(names(&pod, "volumes"), ["weir-state", "weir-policy"]);
    assert_eq!(texts, [""; 0]);
}

#[test]
fn a_classic_sidecar_starts_before_the_application_and_outlives_it() {
    let mut pod = annotated("native", "false");
    pod["spec"]["terminationGracePeriodSeconds"] = 600.into();
    let (pod, _) = injected(&pod, &Facts::default());
    assert_eq!(names(&pod, "initContainers"), ["migrate", "weir-redirect"]);
    assert_eq!(names(&pod, "containers"), ["weir-proxy", "app"]);
    let proxy = &pod["spec"]["containers"][0];
    assert_eq!(variable(proxy, "WEIR_DRAIN_TIME"), Some("595s"));
    assert!(proxy["lifecycle"]["postStart"].is_object());
    assert_eq!(proxy["restartPolicy"], Value::Null);
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(
        annotations["kubectl.kubernetes.io/default-container"],
        "app"
    );
}

#[test]
fn a_pod_of_almost_nothing_is_injected_too() {
    let (pod, _) = injected(
        &json!({"spec": {"containers": [{"name": "a"}]}}),
        &forbidding(),
    );
    assert_eq!(names(&pod, "initContainers"), ["weir-proxy"]);
    assert!(pod["metadata"]["annotations"]["weir.dev/status"].is_string());
    assert!(variable(&pod["spec"]["containers"][0], "HTTP_PROXY").is_some());
}

#[test]
fn annotations_reach_the_containers() {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({
        "weir.dev/skip-outbound-ports": "3306, 9000-9100",
        "weir.dev/skip-outbound-cidrs": "10.0.0.0/8",
        "weir.dev/drop-invalid": "true",
        "weir.dev/opaque-ports": "5433",
        "weir.dev/proxy-uid": "20000",
        "weir.dev/log-level": "debug",
        "weir.dev/policy": "strict",
        "weir.dev/drain-timeout": "1m",
        "weir.dev/trace-sample-ratio": "0.25",
        "weir.dev/proxy-cpu-limit": "2",
        "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "cache",
    });
    let (pod, texts) = injected(&pod, &Facts::default());
    assert_eq!(texts, [""; 0]);
    let [redirect, proxy] = [0, 1].map(|place| &pod["spec"]["initContainers"][place]);
    assert_eq!(
        redirect["args"],
        json!([
            "redirect",
            "--proxy-uid=20000",
            "--redirect-port=19401",
            "--skip-ports=3306,9000-9100",
            "--skip-cidrs=10.0.0.0/8",
            "--drop-invalid"
        ])
    );
    assert_eq!(proxy["securityContext"]["runAsUser"], 20000);
    assert_eq!(proxy["resources"]["limits"]["cpu"], "2");
    for (name, value) in [
        ("WEIR_LOG_LEVEL", "debug"),
        ("WEIR_OPAQUE_PORTS", "5433"),
        ("WEIR_DRAIN_TIME", "1m"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel.obs:4317"),
        ("OTEL_SERVICE_NAME", "cart"),
    ] {
        assert_eq!(variable(proxy, name), Some(value), "{name}");
    }
    assert_eq!(pod["spec"]["volumes"][1]["configMap"]["name"], "strict");
    let evictable = &pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"];
    assert_eq!(evictable, "cache,weir-state");
}

#[test]
fn the_proxy_is_told_of_its_memory_if_it_can_keep_to_it() {
    for (limit, is_told) in [("256Mi", true), ("16Mi", true), ("15Mi", false)] {
        let mut pod = annotated("proxy-memory-limit", limit);
        pod["metadata"]["annotations"]["weir.dev/proxy-memory-request"] = "1Mi".into();
        let (pod, _) = injected(&pod, &Facts::default());
        let variables = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let told = variables
            .iter()
            .any(|variable| variable["name"] == "WEIR_MEMORY_MAX");
        assert_eq!(told, is_told, "{limit}");
    }
}

#[test]
fn settings_replace_variables_and_are_replaced_by_annotations() {
    let settings = Settings::parse(
        "{options: {log-level: warn, skip-outbound-ports: '1'}, imagePullSecrets: [r], \
         env: [{name: WEIR_WORKERS, value: '2'}, {name: OTEL_SERVICE_NAME, value: mine}]}",
    )
    .unwrap();
    let pod = annotated("skip-outbound-ports", "2");
    let Outcome::Injected { patch, .. } = inject(&pod, &Facts::default(), &settings).unwrap()
    else {
        panic!("skipped");
    };
    let mut pod = pod;
    json_patch::patch(&mut pod, &patch).unwrap();
    let [redirect, proxy] = [0, 1].map(|place| &pod["spec"]["initContainers"][place]);
    assert_eq!(redirect["args"][3], "--skip-ports=2");
    assert_eq!(variable(proxy, "WEIR_LOG_LEVEL"), Some("warn"));
    assert_eq!(variable(proxy, "WEIR_WORKERS"), Some("2"));
    let of_name = |variable: &&Value| variable["name"] == "OTEL_SERVICE_NAME";
    let env = proxy["env"].as_array().unwrap();
    assert_eq!(env.iter().filter(of_name).count(), 1);
    assert_eq!(variable(proxy, "OTEL_SERVICE_NAME"), Some("mine"));
    assert_eq!(names(&pod, "imagePullSecrets"), ["r"]);
}

#[test]
fn where_net_admin_is_forbidden_the_application_is_told_of_the_explicit_proxy() {
    let mut pod = annotated("skip-outbound-cidrs", "10.0.0.0/8");
    pod["spec"]["containers"][0]["env"] =
        json!([{"name": "HTTP_PROXY", "value": "http://corp:3128"}]);
    let (pod, texts) = injected(&pod, &forbidding());
    assert_eq!(names(&pod, "initContainers"), ["weir-proxy", "migrate"]);
    let [application, migrate] = [
        &pod["spec"]["containers"][0],
        &pod["spec"]["initContainers"][1],
    ];
    assert_eq!(
        variable(application, "HTTP_PROXY"),
        Some("http://corp:3128")
    );
    assert_eq!(
        variable(application, "http_proxy"),
        Some("http://127.0.0.1:19403")
    );
    assert_eq!(
        variable(application, "NO_PROXY"),
        Some("localhost,127.0.0.1,10.0.0.0/8")
    );
    assert_eq!(
        variable(migrate, "grpc_proxy"),
        Some("http://127.0.0.1:19403")
    );
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains("psa_forbids_net_admin"));
    assert!(texts[1].contains("app has HTTP_PROXY of its own"));
}

#[test]
fn a_container_that_another_webhook_added_is_told_of_the_proxy_later() {
    let (mut pod, _) = injected(&pod(), &forbidding());
    let added = json!({"name": "late", "image": "l"});
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(added);
    let (pod, texts) = injected(&pod, &forbidding());
    assert!(variable(&pod["spec"]["containers"][1], "HTTP_PROXY").is_some());
    assert_eq!(names(&pod, "initContainers"), ["weir-proxy", "migrate"]);
    assert_eq!(texts, [""; 0]);
}

#[test]
fn what_cannot_be_injected_safely_says_why() {
    let (labels, first) = ("/metadata", "/spec/containers/0");
    let init = "/spec/initContainers/0";
    let clash = json!({"runAsUser": 19400});
    for (expected, parent, member, value) in [
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
    ] {
        let mut pod = pod();
        pod.pointer_mut(parent).unwrap()[member] = value.clone();
        let outcome = decide(&pod, &Facts::default());
        assert_eq!(outcome.code(), expected, "{parent}/{member}: {value}");
        // The API server cuts a warning there.
        assert!(outcome.texts().iter().all(|text| text.len() <= 256));
    }
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
fn what_is_no_pod_is_an_error_and_no_panic() {
    for wrong in [
        json!(null),
        json!("pod"),
        json!({"spec": {"containers": {"name": "a"}}}),
        json!({"spec": {"containers": [7]}}),
        json!({"metadata": {"labels": {"a": 1}}, "spec": {}}),
    ] {
        assert!(
            inject(&wrong, &Facts::default(), &settings()).is_err(),
            "{wrong}"
        );
    }
}

/// Pods of all kinds that matter here.
fn any_pod() -> impl Strategy<Value = (Value, Facts)> {
    let container = (any::<bool>(), any::<bool>(), "[a-z]{1,5}").prop_map(|(env, own, name)| {
        let mut container = json!({"name": name, "image": "a"});
        if env {
            container["env"] = json!([{"name": "A", "value": "1"}]);
        }
        if env && own {
            container["env"][0]["name"] = "NO_PROXY".into();
        }
        container
    });
    let list = proptest::option::of(proptest::collection::vec(container, 0..3));
    let annotation = prop_oneof![
        Just(None),
        Just(Some(json!({}))),
        Just(Some(json!({"weir.dev/native": "false"}))),
        Just(Some(
            json!({"weir.dev/interception": "none", "weir.dev/typo": "x"})
        )),
        Just(Some(
            json!({"weir.dev/interception": "env", "weir.dev/log-level": "debug"})
        )),
    ];
    let volumes = prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!([{"name": "v"}]))
    ];
    let named = any::<bool>();
    (
        list.clone(),
        list,
        annotation,
        volumes,
        named,
        any::<bool>(),
    )
        .prop_map(|(containers, init, annotations, volumes, named, forbids)| {
            let mut pod = json!({"spec": {"containers": containers, "volumes": volumes}});
            if let Some(init) = init {
                pod["spec"]["initContainers"] = init.into();
            }
            if named || annotations.is_some() {
                pod["metadata"] = json!({"name": "p"});
            }
            if let Some(annotations) = annotations {
                pod["metadata"]["annotations"] = annotations;
            }
            (
                pod,
                if forbids {
                    forbidding()
                } else {
                    Facts::default()
                },
            )
        })
}

proptest! {
    #[test]
    fn to_inject_twice_changes_nothing((pod, facts) in any_pod()) {
        let (once, _) = injected(&pod, &facts);
        let again = decide(&once, &facts);
        prop_assert_eq!(again.code(), "already_injected");
        prop_assert_eq!(again.texts(), Vec::<String>::new());
    }

    #[test]
    fn nothing_of_the_pod_is_lost((pod, facts) in any_pod()) {
        let (once, _) = injected(&pod, &facts);
        for list in ["containers", "initContainers", "volumes"] {
            let kept: Vec<String> = names(&once, list)
                .into_iter()
                .filter(|name| !name.starts_with("weir-"))
                .collect();
            prop_assert_eq!(kept, names(&pod, list));
        }
    }
}
