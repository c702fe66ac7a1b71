//! Finds the pods that ask for a sidecar and have none, or an old one: from what `kubectl get namespaces,pods` prints.
//!
//! The webhook sees a pod once, when it is made. Pods that were there before the label, or that were made while no
//! injector answered, run without weir and nobody notices. So this asks of every pod that there is what the webhook
//! would say of it today. Pure, and without rights in the cluster.

use std::collections::HashMap;
use std::fmt;

use control_api::well_known::kubernetes::PREFIX;
use serde_json::Value;

use crate::inject::{Facts, Outcome, PodSecurity, inject};
use crate::manifest::{ManifestError, field, label, objects};
use crate::reason::Skip;
use crate::settings::Settings;

/// What the pods of a cluster are like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Pods that ask for a sidecar, and have not ended.
    pub asked: usize,
    /// Those of them that are not as they should be, as they came.
    pub findings: Vec<Finding>,
}

/// A pod without its sidecar, or with an old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Namespace and name.
    pub pod: String,
    /// Why, for machines.
    pub code: &'static str,
    /// Why, for people.
    pub text: String,
}

/// What cannot be audited.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Whether a pod asks for the sidecar is said by its namespace's labels, and those are missing.
    #[error("the namespace {namespace} of pod {pod} is not in the input; {EXPECTED}")]
    NoNamespace {
        /// The pod.
        pod: String,
        /// Its namespace.
        namespace: String,
    },
    /// What kubectl could not say, or something else altogether.
    #[error("there is no namespace in the input; {EXPECTED}")]
    Nothing,
    /// A pod is none.
    #[error("{pod}: {source}")]
    Pod {
        /// The pod.
        pod: String,
        /// Why not.
        source: serde_json::Error,
    },
}

const EXPECTED: &str =
    "it is to be the output of `kubectl get namespaces,pods --all-namespaces -o json`";

/// A pod could have the sidecar, and does not.
const NOT_INJECTED: &str = "not_injected";

/// Audits the namespaces and pods in `text`, one or many documents of YAML or JSON.
///
/// # Errors
/// [`AuditError`]; an input that is not understood as a whole says nothing about a cluster.
pub fn audit(text: &str, settings: &Settings) -> Result<Audit, AuditError> {
    let objects = objects(text)?;
    let of_kind = |kind| {
        let core = |object: &&Value| field(object, "/apiVersion") == "v1";
        let objects = objects.iter().filter(core);
        objects.filter(move |object| field(object, "/kind") == kind)
    };
    let namespaces: HashMap<&str, &Value> = of_kind("Namespace")
        .map(|namespace| (field(namespace, "/metadata/name"), namespace))
        .collect();
    if namespaces.is_empty() {
        return Err(AuditError::Nothing);
    }
    let mut audit = Audit::default();
    for pod in of_kind("Pod").filter(|pod| !has_ended(pod)) {
        let of = field(pod, "/metadata/namespace");
        let name = format!("{of}/{}", field(pod, "/metadata/name"));
        let Some(namespace) = namespaces.get(of) else {
            return Err(AuditError::NoNamespace {
                pod: name,
                namespace: of.to_owned(),
            });
        };
        if !asks(namespace, pod) {
            continue;
        }
        let facts = Facts {
            workload: None,
            pod_security: pod_security(namespace),
        };
        let outcome = inject(pod, &facts, settings);
        let outcome = outcome.map_err(|source| AuditError::Pod {
            pod: name.clone(),
            source,
        })?;
        audit.asked += 1;
        let finding = finding(&outcome);
        audit.findings.extend(finding.map(|(code, text)| Finding {
            pod: name,
            code,
            text,
        }));
    }
    Ok(audit)
}

/// What is wrong with a pod that asks for the sidecar, by what the webhook would say of it.
fn finding(outcome: &Outcome) -> Option<(&'static str, String)> {
    match outcome {
        Outcome::Injected { .. } => Some((
            NOT_INJECTED,
            "it was made before the label, while no injector answered, or in a namespace that the chart excludes; \
             make it anew (kubectl rollout restart)"
                .to_owned(),
        )),
        Outcome::Skipped {
            skip: Skip::AlreadyInjected,
            warnings,
        } => {
            let stale = warnings.first()?;
            Some((stale.code(), explanation(stale)))
        }
        Outcome::Skipped { skip, .. } => skip.is_news().then(|| (skip.code(), explanation(skip))),
    }
}

/// What people are told, without what `kubectl` needs before it: `weir`, and the code.
fn explanation(told: &impl fmt::Display) -> String {
    let text = told.to_string();
    text.splitn(3, ": ").last().unwrap_or_default().to_owned()
}

/// The same choice as that of the selectors of the chart's webhooks.
fn asks(namespace: &Value, pod: &Value) -> bool {
    let label = format!("/metadata/labels/{}", label());
    match (field(namespace, &label), field(pod, &label)) {
        (_, "disabled") | ("disabled", _) => false,
        ("enabled", _) | (_, "enabled") => true,
        _ => false,
    }
}

fn pod_security(namespace: &Value) -> PodSecurity {
    let enforced = "/metadata/labels/pod-security.kubernetes.io~1enforce";
    match field(namespace, enforced) {
        "baseline" | "restricted" => PodSecurity::ForbidsNetAdmin,
        _ => PodSecurity::AllowsNetAdmin,
    }
}

/// Whether nothing of the pod will call anybody again.
fn has_ended(pod: &Value) -> bool {
    matches!(field(pod, "/status/phase"), "Succeeded" | "Failed")
        || !field(pod, "/metadata/deletionTimestamp").is_empty()
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { pod, code, text } in &self.findings {
            writeln!(f, "{pod}: {code}: {text}")?;
        }
        let right = self.asked - self.findings.len();
        writeln!(
            f,
            "{right} of {} pods that ask for the sidecar ({PREFIX}inject) have it",
            self.asked
        )
    }
}

#[cfg(test)]
mod tests {
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
        let labels = json!({"weir.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "restricted"});
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
        let other = list(&[namespace("else", &json!({})), pod("shop/a")]);
        let error = audit(&other, &settings("")).unwrap_err();
        assert!(
            error.to_string().contains("kubectl get namespaces,pods"),
            "{error}"
        );
        let no_pod = with(pod("shop/a"), "/spec/containers", json!("none"));
        let items = [
            namespace("shop", &json!({"weir.dev/inject": "enabled"})),
            no_pod,
        ];
        let error = audit(&list(&items), &settings("")).unwrap_err();
        assert!(error.to_string().starts_with("shop/a: "), "{error}");
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
}
