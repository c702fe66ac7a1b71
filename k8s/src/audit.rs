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
mod tests;
