//! Finds the pods that ask for a sidecar and have none, or an old one: from what `kubectl get namespaces,pods` prints.
//!
//! The webhook sees a pod once, when it is made. Pods that were there before the label, or that were made while no
//! injector answered, run without weir and nobody notices. So this asks of every pod that there is what the webhook
//! would say of it today. Pure, and without rights in the cluster.

use std::collections::HashMap;
use std::fmt;

use control_api::well_known::kubernetes::{PREFIX, PROXY_CONTAINER};
use serde_json::Value;

use crate::inject::{Facts, Outcome, PodSecurity, inject};
use crate::manifest::{ManifestError, field, label, objects};
use crate::pod::Pod;
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
    /// What kubectl could not say, or something else altogether.
    #[error(
        "there is no namespace in the input; it is to be the output of `kubectl get namespaces,pods --all-namespaces -o json`"
    )]
    Nothing,
}

/// Codes of what only an audit finds, and what they mean.
pub const FINDINGS: &[(&str, &str)] = &[
    (
        NOT_INJECTED,
        "The pod could have the sidecar: it was made before the label, or while no injector answered.",
    ),
    (
        INCOMPLETE,
        "The sidecar is there, but a container that came later lacks the proxy's variables.",
    ),
    (
        UNREADABLE,
        "The pod or its namespace is not as the API server writes it, or came into being while kubectl listed them.",
    ),
];

const NOT_INJECTED: &str = "not_injected";
const INCOMPLETE: &str = "incomplete";
const UNREADABLE: &str = "unreadable";

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
        let namespace = namespaces.get(field(pod, "/metadata/namespace"));
        let (asked, finding) = match namespace {
            None => (
                true,
                Some((UNREADABLE, "its namespace is not in the input".to_owned())),
            ),
            Some(namespace) if !asks(namespace, pod) => continue,
            Some(namespace) => look(pod, pod_security(namespace), settings),
        };
        let name = ["/metadata/namespace", "/metadata/name"].map(|pointer| field(pod, pointer));
        audit.asked += usize::from(asked);
        audit.findings.extend(finding.map(|(code, text)| Finding {
            pod: name.join("/"),
            code,
            text,
        }));
    }
    Ok(audit)
}

/// Whether a pod is to have the sidecar, and what is wrong with it, by what the webhook would say of it.
fn look(
    pod: &Value,
    pod_security: PodSecurity,
    settings: &Settings,
) -> (bool, Option<(&'static str, String)>) {
    let facts = Facts {
        workload: None,
        pod_security,
    };
    match inject(pod, &facts, settings) {
        Err(error) => (true, Some((UNREADABLE, error.to_string()))),
        Ok(Outcome::Injected { .. }) if has_proxy(pod) => {
            let text = "a container came later than the sidecar, and lacks the proxy's variables";
            (true, Some((INCOMPLETE, text.to_owned())))
        }
        Ok(Outcome::Injected { .. }) => {
            let text = "it was made before the label, while no injector answered, or in a namespace that the chart excludes; \
                        make it anew (kubectl rollout restart)";
            (true, Some((NOT_INJECTED, text.to_owned())))
        }
        Ok(Outcome::Skipped {
            skip: Skip::AlreadyInjected,
            warnings,
        }) => {
            let stale = warnings.first();
            (true, stale.map(|stale| (stale.code(), explanation(stale))))
        }
        Ok(Outcome::Skipped { skip, .. }) if skip.is_news() => {
            (true, Some((skip.code(), explanation(&skip))))
        }
        // It does not want the sidecar after all, or cannot be changed.
        Ok(Outcome::Skipped { .. }) => (false, None),
    }
}

fn has_proxy(pod: &Value) -> bool {
    Pod::read(pod).is_ok_and(|pod| pod.has_container(PROXY_CONTAINER))
}

/// What people are told, without what `kubectl` needs before it: `weir`, and the code.
fn explanation(told: &impl fmt::Display) -> String {
    let text = told.to_string();
    text.splitn(3, ": ").last().unwrap_or_default().to_owned()
}

/// The same choice as that of the selectors of the chart's webhooks; only they know of excluded namespaces.
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
