//! Who is injected, how, and what a pod that is not is told.

use e2e::cluster::namespace::{Namespace, sleeper};
use e2e::cluster::{SOON, until};
use serde_json::Value;

fn names(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array().cloned().unwrap_or_default();
    containers
        .iter()
        .filter_map(|container| container["name"].as_str().map(str::to_owned))
        .collect()
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn an_init_container_of_the_user_has_network_through_weir() {
    let shop = Namespace::injected("weir-init");
    shop.shop(&["stock"]);
    let init = "initContainers: [{name: migrate, image: registry.local/shop-go:1, imagePullPolicy: IfNotPresent, \
                args: [get, 'http://stock/stock/1'], securityContext: {runAsUser: 1000}}]";
    shop.apply(&sleeper("client", "labels: {app: client}", init));
    shop.wait_pod("client", "Ready");
    let pod = shop.get(&["pod", "client"]);
    assert_eq!(
        names(&pod, "initContainers"),
        ["weir-redirect", "weir-proxy", "migrate"]
    );
    let token = "/var/run/secrets/kubernetes.io/serviceaccount";
    for container in pod["spec"]["initContainers"].as_array().expect("a list") {
        let mounts = container["volumeMounts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let volume = mounts
            .iter()
            .find(|mount| mount["mountPath"] == token)
            .map(|mount| mount["name"].clone());
        let ours = container["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("weir-"));
        assert_eq!(
            volume == Some("weir-state".into()),
            ours,
            "the application's token is the application's: {container}"
        );
    }
    // Before the user's container began, its one call had gone through the sidecar.
    assert!(
        shop.metric("client", "weir_outbound_requests_total", &[]) >= 1,
        "{}",
        shop.picture()
    );
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_job_completes_though_its_sidecar_would_go_on() {
    let shop = Namespace::injected("weir-job");
    shop.shop(&["stock"]);
    shop.apply(
        "apiVersion: batch/v1
kind: Job
metadata: {name: report}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: app, image: 'registry.local/shop-go:1', imagePullPolicy: IfNotPresent, args: [get, 'http://stock/stock/1']}
",
    );
    shop.kubectl(&[
        "wait",
        "job/report",
        "--for=condition=Complete",
        "--timeout=60s",
    ]);
    let pod = shop.get(&["pods", "--selector", "job-name=report"])["items"][0].clone();
    let sidecar = pod["status"]["initContainerStatuses"]
        .as_array()
        .and_then(|all| all.iter().find(|status| status["name"] == "weir-proxy"))
        .cloned()
        .expect("it was injected");
    assert_eq!(sidecar["state"]["terminated"]["exitCode"], 0, "{sidecar}");
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_pod_reaches_itself_by_its_own_service_and_others_by_both_families() {
    let shop = Namespace::injected("weir-services");
    shop.shop(&["catalog", "stock"]);
    let catalog = shop.pod("app=catalog");
    // A Service that is new may not be known to the node yet.
    let patient = [
        "/shop",
        "get",
        "--tries=50",
        "--pause=200ms",
        "http://catalog/items/1",
    ];
    shop.exec_json(&catalog, "catalog", &patient);
    let before = shop.metric(&catalog, "weir_outbound_requests_total", &[]);
    let own = shop.call(&catalog, "catalog", "http://catalog/items/1");
    assert_eq!(own["ok"], true, "{own}");
    let calls = shop.metric(&catalog, "weir_outbound_requests_total", &[]) - before;
    // Its call to itself, once, and the call to stock that it made for the answer.
    assert_eq!(calls, 2);

    let service = shop.get(&["service", "catalog"]);
    let addresses = service["spec"]["clusterIPs"]
        .as_array()
        .cloned()
        .expect("addresses");
    assert_eq!(addresses.len(), 2, "the Service is dual-stack");
    let client = shop.client("");
    for address in addresses.iter().filter_map(Value::as_str) {
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        let answer = shop.call(client, "app", &format!("http://{host}/items/1"));
        assert_eq!(answer["ok"], true, "{address}: {answer}");
    }
    assert!(shop.metric("client", "weir_outbound_requests_total", &[]) >= 2);
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn what_cannot_be_injected_is_admitted_as_it_is_with_a_warning() {
    let shop = Namespace::injected("weir-warnings");
    for (name, metadata, spec, code) in [
        (
            "clash",
            "labels: {a: b}",
            "securityContext: {runAsUser: 19400}",
            "uid_clash",
        ),
        (
            "host",
            "labels: {a: b}",
            "hostNetwork: true",
            "host_network_enabled",
        ),
        (
            "windows",
            "labels: {a: b}",
            "os: {name: windows}",
            "windows_pod",
        ),
        (
            "mesh",
            "annotations: {linkerd.io/inject: enabled}",
            "",
            "other_mesh",
        ),
    ] {
        let warnings = shop.apply(&sleeper(name, metadata, spec));
        assert!(
            warnings.contains("Warning:") && warnings.contains(code),
            "{name}: {warnings}"
        );
        let pod = shop.get(&["pod", name]);
        assert!(
            names(&pod, "initContainers").is_empty(),
            "{name} was injected"
        );
    }
    let warnings = shop.apply(&sleeper(
        "typo",
        "annotations: {weir.dev/opaque-port: '7000'}",
        "",
    ));
    assert!(
        warnings.contains("weir.dev/opaque-ports"),
        "the nearest right one is named: {warnings}"
    );
    assert!(
        names(&shop.get(&["pod", "typo"]), "initContainers").contains(&"weir-proxy".to_owned())
    );

    let untouched = shop.apply(&sleeper(
        "unasked",
        "labels: {weir.dev/inject: disabled}",
        "",
    ));
    assert!(
        !untouched.contains("Warning"),
        "who forbids it needs no warning: {untouched}"
    );
}

/// Where Pod Security forbids what the rules of the kernel need, a pod whose container says this of its security gets the
/// proxy alone, and its call goes by it.
fn gets_the_explicit_proxy(level: &str, security: &str) -> Namespace {
    let shop = Namespace::bare(&format!("weir-{level}"));
    shop.label(&format!("pod-security.kubernetes.io/enforce={level}"));
    shop.label(e2e::cluster::INJECT);
    shop.shop(&["stock"]);
    let pod = sleeper("client", "labels: {app: client}", "");
    let warnings = shop.apply(&format!("{pod}    securityContext: {{{security}}}\n"));
    assert!(warnings.contains("psa_forbids_net_admin"), "{warnings}");
    shop.wait_pod("client", "Ready");
    let pod = shop.get(&["pod", "client"]);
    assert_eq!(names(&pod, "initContainers"), ["weir-proxy"]);
    let before = shop.metric("client", "weir_outbound_requests_total", &[]);
    let answer = shop.call("client", "app", "http://stock/stock/1");
    assert_eq!(answer["ok"], true, "{answer}");
    let calls = shop.metric("client", "weir_outbound_requests_total", &[]) - before;
    assert_eq!(calls, 1, "the call went by the proxy");
    shop
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_restricted_namespace_gets_the_explicit_proxy() {
    let secure = "runAsNonRoot: true, runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, \
                  seccompProfile: {type: RuntimeDefault}";
    let shop = gets_the_explicit_proxy("restricted", secure);
    // To prove rules that something else installs needs no right. There are none here: the pod does not start.
    let asks = "annotations: {weir.dev/interception: verify}";
    let pod = sleeper("proves", asks, "");
    shop.apply(&format!("{pod}    securityContext: {{{secure}}}\n"));
    let told = until("weir-redirect to say why", SOON, || {
        let pod = shop.get(&["pod", "proves"]);
        let step = &pod["status"]["initContainerStatuses"][0];
        let ended =
            [&step["state"], &step["lastState"]].map(|state| &state["terminated"]["message"]);
        ended.into_iter().find_map(Value::as_str).map(str::to_owned)
    });
    assert!(told.contains("did not land on port 19401"), "{told}");
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_baseline_namespace_gets_the_explicit_proxy() {
    gets_the_explicit_proxy("baseline", "runAsUser: 0");
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn one_pod_may_ask_for_itself_and_a_removed_label_leaves_no_trace() {
    let shop = Namespace::bare("weir-label");
    shop.apply(&sleeper("asks", "labels: {weir.dev/inject: enabled}", ""));
    shop.wait_pod("asks", "Ready");
    assert!(
        names(&shop.get(&["pod", "asks"]), "initContainers").contains(&"weir-proxy".to_owned())
    );

    shop.label(e2e::cluster::INJECT);
    shop.shop(&["stock"]);
    let injected = shop.get(&["pod", &shop.pod("app=stock")]);
    assert!(names(&injected, "initContainers").contains(&"weir-proxy".to_owned()));
    shop.label("weir.dev/inject-");
    shop.kubectl(&["rollout", "restart", "deployment/stock"]);
    shop.available("stock");
    let plain = until("one pod of the new template", SOON, || {
        let pods = shop.pods("app=stock");
        (pods.len() == 1).then(|| shop.get(&["pod", &pods[0]]))
    });
    let text = plain.to_string();
    for trace in [
        "weir.dev",
        "weir-proxy",
        "weir-redirect",
        "weir-state",
        "weir-policy",
    ] {
        assert!(!text.contains(trace), "{trace} is left: {text}");
    }
}
