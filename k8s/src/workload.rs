//! Who a pod belongs to: what people deployed, not what a controller made of it.

use crate::pod::Pod;

/// The object that people deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// `Deployment`, `StatefulSet`, ...
    pub kind: String,
    /// Its name, which is the service's.
    pub name: String,
}

impl Workload {
    /// Finds the workload of a pod from what the pod says of its owner.
    ///
    /// A controller names its objects after its own: a Deployment's `ReplicaSet` is `NAME-HASH` and says so in a label, a
    /// `CronJob`'s Job is `NAME-MINUTES`. So nobody has to be asked, and the injector needs no rights.
    #[must_use]
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let metadata = pod.metadata.as_ref()?;
        let owners = metadata.owner_references.iter().flatten();
        let owner = owners
            .into_iter()
            .find(|owner| owner.controller == Some(true));
        let Some(owner) = owner else {
            // Not the name that is made of it: the webhook is asked before that, and is to say the same ever after.
            let is_text = |text: &&str| !text.is_empty();
            let generated = metadata.generate_name.as_deref().filter(is_text);
            let generated = generated.map(|prefix| prefix.trim_end_matches('-'));
            let name = generated.or_else(|| metadata.name.as_deref().filter(is_text))?;
            return Some(Self::new("Pod", name));
        };
        let name = owner.name.as_str();
        Some(match owner.kind.as_str() {
            "ReplicaSet" => replica_set_of(pod, name),
            "Job" => match name.rsplit_once('-') {
                Some((cron_job, minutes)) if is_minutes(minutes) => Self::new("CronJob", cron_job),
                _ => Self::new("Job", name),
            },
            kind => Self::new(kind, name),
        })
    }

    /// The workload `name` of a kind.
    #[must_use]
    pub fn new(kind: &str, name: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Its attribute in OpenTelemetry's semantic conventions. None: there is none for the kind.
    #[must_use]
    pub fn attribute(&self) -> Option<&'static str> {
        Some(match self.kind.as_str() {
            "Deployment" => "k8s.deployment.name",
            "ReplicaSet" => "k8s.replicaset.name",
            "StatefulSet" => "k8s.statefulset.name",
            "DaemonSet" => "k8s.daemonset.name",
            "Job" => "k8s.job.name",
            "CronJob" => "k8s.cronjob.name",
            _ => return None,
        })
    }
}

/// A Deployment's, an Argo Rollout's, or one by itself.
fn replica_set_of(pod: &Pod, name: &str) -> Workload {
    let without = |label: &str| {
        let hash = pod.label(label).filter(|hash| !hash.is_empty())?;
        name.strip_suffix(hash)?.strip_suffix('-')
    };
    if let Some(deployment) = without("pod-template-hash") {
        return Workload::new("Deployment", deployment);
    }
    match without("rollouts-pod-template-hash") {
        Some(rollout) => Workload::new("Rollout", rollout),
        None => Workload::new("ReplicaSet", name),
    }
}

/// A `CronJob` names its Jobs after the minute that they were due in, since 1970.
fn is_minutes(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(kind: &str, name: &str, labels: &serde_json::Value) -> (String, String) {
        let pod = json!({"metadata": {
            "generateName": format!("{name}-"),
            "labels": labels,
            "ownerReferences": [{"kind": kind, "name": name, "controller": true}],
        }});
        let workload = Workload::of(&Pod::read(&pod).unwrap()).unwrap();
        (workload.kind, workload.name)
    }

    #[test]
    fn a_pod_belongs_to_what_was_deployed() {
        let pair = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        let hash = json!({"pod-template-hash": "7d9f"});
        assert_eq!(
            of("ReplicaSet", "cart-7d9f", &hash),
            pair("Deployment", "cart")
        );
        assert_eq!(
            of("ReplicaSet", "cart", &json!(null)),
            pair("ReplicaSet", "cart")
        );
        assert_eq!(
            of("StatefulSet", "db", &json!({})),
            pair("StatefulSet", "db")
        );
        assert_eq!(
            of("Job", "report-29384756", &json!({})),
            pair("CronJob", "report")
        );
        assert_eq!(of("Job", "migrate-1", &json!({})), pair("Job", "migrate-1"));
    }

    #[test]
    fn a_pod_by_itself_is_its_own_workload() {
        let of = |metadata: serde_json::Value| {
            Workload::of(&Pod::read(&json!({"metadata": metadata})).unwrap()).map(|own| own.name)
        };
        assert_eq!(of(json!({"name": "debug"})).as_deref(), Some("debug"));
        assert_eq!(
            of(json!({"generateName": "debug-"})).as_deref(),
            Some("debug")
        );
        assert_eq!(of(json!({})), None);
    }
}
