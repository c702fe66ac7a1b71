//! What an injected pod has more than before: two containers, two volumes, secrets for the image.

use std::time::Duration;

use control_api::policy::Mode;
use control_api::well_known::kubernetes::{
    ADMIN_PORT_NAME, BINARY_DIR, POLICY_KEY, PROXY_CONTAINER, REDIRECT_CONTAINER,
};
use control_api::well_known::{ADMIN_PORT, POLICY_DIR, PROXY_MEMORY_MIN, STATE_DIR};
use serde_json::{Value, json};

use super::common::{STATE_VOLUME, no_token, resources};
use super::init_step;
use super::patch::Patcher;
use super::proxy_variables::Variable;
use crate::options::{Options, Placement};
use crate::pod::Pod;
use crate::settings::Settings;
use crate::values::Quantity;
use crate::workload::Workload;

/// The volume of the policy's `ConfigMap`.
const POLICY_VOLUME: &str = "weir-policy";
/// Both.
pub(super) const VOLUMES: [&str; 2] = [STATE_VOLUME, POLICY_VOLUME];

/// Everything that is added but annotations and the application's variables.
#[derive(Debug)]
pub(super) struct Sidecar {
    /// None where nothing is redirected.
    redirect: Option<Value>,
    proxy: Value,
    volumes: Vec<Value>,
    pull_secrets: Vec<String>,
}

/// Whether a container is one of ours by its name.
pub(super) fn is_ours(name: &str) -> bool {
    [REDIRECT_CONTAINER, PROXY_CONTAINER].contains(&name)
}

impl Sidecar {
    pub(super) fn new(
        pod: &Pod,
        settings: &Settings,
        options: &Options,
        workload: Option<&Workload>,
    ) -> Self {
        Self {
            redirect: options
                .interception
                .redirects()
                .then(|| init_step::redirect(settings, options)),
            proxy: proxy(settings, options, &env(pod, settings, options, workload)),
            volumes: vec![
                json!({"name": STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": STATE_SIZE_MAX}}),
                json!({"name": POLICY_VOLUME, "configMap": {"name": options.policy, "optional": true}}),
            ],
            pull_secrets: settings.image_pull_secrets.clone(),
        }
    }

    /// Puts it into the pod. A native sidecar comes before the pod's own init containers, so that these have a network.
    pub(super) fn add(&self, patcher: &mut Patcher, pod: &Pod, placement: Placement) {
        let Some(spec) = &pod.spec else { return };
        let first = ["spec", "initContainers"];
        let exists = spec.init_containers.is_some();
        let redirect = self.redirect.iter().cloned();
        match placement {
            Placement::Native => {
                let both = redirect.chain([self.proxy.clone()]).collect();
                patcher.prepend(&first, exists, both);
            }
            Placement::Classic => {
                // Last: before it there are no rules, and after it there is no proxy yet.
                patcher.append(&first, exists, redirect.collect());
                let exists = spec.containers.is_some();
                patcher.prepend(&["spec", "containers"], exists, vec![self.proxy.clone()]);
            }
        }
        patcher.append(
            &["spec", "volumes"],
            spec.volumes.is_some(),
            self.volumes.clone(),
        );
        let known = spec.image_pull_secrets.as_deref().unwrap_or_default();
        let is_new = |secret: &&String| {
            let is_it = |known: &crate::pod::Named| known.name.as_ref() == Some(*secret);
            !known.iter().any(is_it)
        };
        let secrets = self.pull_secrets.iter().filter(is_new);
        patcher.append(
            &["spec", "imagePullSecrets"],
            spec.image_pull_secrets.is_some(),
            secrets.map(|name| json!({"name": name})).collect(),
        );
    }

    /// Changes whenever what is added does, `variables` of other containers included. FNV-1a: stable everywhere, and no secret
    /// depends on it.
    pub(super) fn hash(&self, variables: &[Variable]) -> String {
        let added = json!([
            self.redirect,
            self.proxy,
            self.volumes,
            self.pull_secrets,
            variables
        ]);
        let text = added.to_string();
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

/// The proxy. It satisfies Pod Security's `restricted`.
fn proxy(settings: &Settings, options: &Options, env: &[Value]) -> Value {
    let probe = |path: &str, bounds: Value| {
        let mut probe = bounds;
        let get = json!({"path": path, "port": ADMIN_PORT});
        if let Some(fields) = probe.as_object_mut() {
            fields.insert("httpGet".to_owned(), get);
        }
        probe
    };
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy.name(),
        "command": [format!("{BINARY_DIR}/weir")],
        "args": ["proxy"],
        "ports": [{"name": ADMIN_PORT_NAME, "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "env": env,
        "resources": resources(&options.resources),
        // The application starts a second after the proxy at most; two minutes are for a node that is short of everything.
        "startupProbe": probe("/readyz", json!({"periodSeconds": 1, "failureThreshold": 120})),
        "readinessProbe": probe("/readyz", json!({"periodSeconds": 10, "timeoutSeconds": 3})),
        // A restart cuts every connection of the pod: only for a proxy that is stuck for good.
        "livenessProbe": probe("/livez", json!({"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6})),
        "securityContext": {
            "runAsUser": options.proxy_uid,
            "runAsGroup": options.proxy_uid,
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": STATE_VOLUME, "mountPath": STATE_DIR},
            {"name": POLICY_VOLUME, "mountPath": POLICY_DIR, "readOnly": true},
            no_token(),
        ],
    });
    let (key, value) = match options.placement {
        Placement::Native => ("restartPolicy", json!("Always")),
        // The kubelet starts the next container when this has returned.
        Placement::Classic => (
            "lifecycle",
            json!({"postStart": {"exec": {"command": [format!("{BINARY_DIR}/weirctl"), "wait"]}}}),
        ),
    };
    if let Some(fields) = container.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
    container
}

/// The proxy's variables. Those of the settings replace ours.
fn env(
    pod: &Pod,
    settings: &Settings,
    options: &Options,
    workload: Option<&Workload>,
) -> Vec<Value> {
    let mut all: Vec<Value> = POD_FACTS
        .iter()
        .map(|(name, path)| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}))
        .collect();
    // Without a limit this would be the node's memory; with less than the proxy can keep to, it goes without a bound.
    let least = Quantity::parse(&PROXY_MEMORY_MIN.to_string()).ok();
    let limit = options.resources.memory_limit.as_ref();
    if limit.is_some_and(|limit| least.is_some_and(|least| !least.exceeds(limit))) {
        let limit = json!({"containerName": PROXY_CONTAINER, "resource": "limits.memory"});
        all.push(json!({"name": "WEIR_MEMORY_MAX", "valueFrom": {"resourceFieldRef": limit}}));
    }
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            all.push(json!({"name": name, "value": value}));
        }
    };
    set("WEIR_POLICY_FILE", &format!("{POLICY_DIR}/{POLICY_KEY}"));
    if options.mode != Mode::default() {
        set("WEIR_MODE", options.mode.word());
    }
    set("WEIR_STATE_DIR", STATE_DIR);
    // The kubelet's probes come to the pod's first address, which may be of either family.
    set("WEIR_ADMIN_ADDR", &format!("[::]:{ADMIN_PORT}"));
    if options.interception.redirects() {
        set("WEIR_PROXY_UID", &options.proxy_uid.to_string());
    }
    set("WEIR_DRAIN_TIME", &drain_time(pod, options));
    set("WEIR_LOG_LEVEL", &options.log_level);
    set("WEIR_OPAQUE_PORTS", &options.opaque_ports);
    if let Some(otlp) = &settings.otlp {
        set("OTEL_EXPORTER_OTLP_ENDPOINT", &otlp.endpoint);
        let protocol = otlp.protocol.as_deref().unwrap_or_default();
        set("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    }
    if !options.trace_sample_ratio.is_empty() {
        set("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        set("OTEL_TRACES_SAMPLER_ARG", &options.trace_sample_ratio);
    }
    let name = workload.map(|workload| workload.name.as_str());
    set("OTEL_SERVICE_NAME", name.unwrap_or_default());
    set("OTEL_RESOURCE_ATTRIBUTES", &attributes(workload));
    let replaced = |variable: &Value| {
        let same = |own: &Value| own.get("name") == variable.get("name");
        settings.env.iter().any(same)
    };
    all.retain(|variable| !replaced(variable));
    all.extend(settings.env.iter().cloned());
    all
}

/// What spans say of the pod. Kubernetes' names have no letter that would have to be escaped.
fn attributes(workload: Option<&Workload>) -> String {
    let mut attributes = RESOURCE.to_owned();
    if let Some((key, workload)) =
        workload.and_then(|workload| Some((workload.attribute()?, workload)))
    {
        attributes = format!("{attributes},{key}={}", workload.name);
    }
    attributes
}

/// A native sidecar is told to end when the application is gone, and the proxy's own drain time is right. A classic one
/// is told together with the application, and serves on for as long as that may take.
fn drain_time(pod: &Pod, options: &Options) -> String {
    if let Some(chosen) = &options.drain_time {
        return chosen.text.clone();
    }
    let spec = pod.spec.as_ref();
    let grace = spec.and_then(|spec| spec.termination_grace_period_seconds);
    match options.placement {
        Placement::Native => String::new(),
        Placement::Classic => {
            let grace = grace.and_then(|seconds| u64::try_from(seconds).ok());
            let grace = grace.map_or(GRACE_DEFAULT, Duration::from_secs);
            let drain = grace.saturating_sub(FINISH_TIME).min(DRAIN_MAX);
            format!("{}s", drain.as_secs().max(1))
        }
    }
}

/// What the downward API tells.
const POD_FACTS: [(&str, &str); 4] = [
    ("POD_NAME", "metadata.name"),
    ("POD_NAMESPACE", "metadata.namespace"),
    ("POD_UID", "metadata.uid"),
    ("NODE_NAME", "spec.nodeName"),
];

/// The attributes that come from it.
const RESOURCE: &str = "service.namespace=$(POD_NAMESPACE),k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME),\
     k8s.pod.uid=$(POD_UID),k8s.node.name=$(NODE_NAME)";

/// A socket and one policy document of at most 1 MiB, twice while it is replaced.
const STATE_SIZE_MAX: &str = "8Mi";

/// A pod's grace period that says nothing of it.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// What calls in flight get after the drain time.
const FINISH_TIME: Duration = Duration::from_secs(5);

/// Longest drain time that the proxy takes.
const DRAIN_MAX: Duration = Duration::from_hours(1);
