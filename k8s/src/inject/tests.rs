use serde_json::{Value, json};

use super::*;

const SETTINGS: &str = "image: weir:1\notlp: {endpoint: 'http://otel.obs:4317'}";

fn settings() -> Settings {
    Settings::parse(SETTINGS).unwrap()
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
fn rules_that_somebody_else_installs_are_proven_without_any_right() {
    let mut asking = annotated("interception", "verify");
    asking["metadata"]["annotations"]["weir.dev/skip-outbound-ports"] = "3306".into();
    // Pod Security has nothing against it.
    let (pod, texts) = injected(&asking, &forbidding());
    assert_eq!(texts, [""; 0]);
    let step = &pod["spec"]["initContainers"][0];
    let args = ["redirect", "--proxy-uid=19400", "--redirect-port=19401"];
    let args = [args.as_slice(), &["--skip-ports=3306", "--verify"]].concat();
    assert_eq!(step["args"], json!(args));
    let context = &step["securityContext"];
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(context["runAsNonRoot"], true);
    // The proxy's own connections are not redirected, and would prove nothing.
    assert_eq!(context["runAsUser"], 19401);
    let application = &pod["spec"]["containers"][0];
    assert_eq!(variable(application, "HTTP_PROXY"), None);
    asking["spec"]["securityContext"] = json!({"runAsUser": 19400});
    assert_eq!(code(&asking), "uid_clash");
}

#[test]
fn without_interception_the_pod_gets_the_proxy_alone() {
    let (pod, texts) = injected(&annotated("interception", "none"), &Facts::default());
    assert_eq!(texts, [""; 0]);
    assert_eq!(names(&pod, "initContainers"), ["weir-proxy", "migrate"]);
    let env = json!([{"name": "A", "value": "1"}]);
    assert_eq!(pod["spec"]["containers"][0]["env"], env);
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

mod properties;
mod skipped;
