//! The parts of a pod that decide about its sidecar; all others are passed over.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A pod, or the template of one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Pod {
    /// Absent in some templates.
    pub(crate) metadata: Option<Metadata>,
    pub(crate) spec: Option<Spec>,
}

/// Who a pod is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) generate_name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Option<BTreeMap<String, Option<String>>>,
    pub(crate) annotations: Option<BTreeMap<String, Option<String>>>,
    pub(crate) owner_references: Option<Vec<Owner>>,
}

/// What made a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Owner {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) controller: Option<bool>,
}

/// What runs in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) containers: Option<Vec<Container>>,
    pub(crate) init_containers: Option<Vec<Container>>,
    pub(crate) volumes: Option<Vec<Named>>,
    pub(crate) image_pull_secrets: Option<Vec<Named>>,
    pub(crate) host_network: Option<bool>,
    pub(crate) security_context: Option<SecurityContext>,
    pub(crate) os: Option<Named>,
    pub(crate) node_selector: Option<BTreeMap<String, Option<String>>>,
    pub(crate) termination_grace_period_seconds: Option<i64>,
    pub(crate) restart_policy: Option<String>,
}

/// A container of either list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) env: Option<Vec<Variable>>,
    pub(crate) ports: Option<Vec<Port>>,
    pub(crate) security_context: Option<SecurityContext>,
}

/// Whatever is known by its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub(crate) name: Option<String>,
}

/// A variable of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Variable {
    pub(crate) name: Option<String>,
    /// Absent where it comes from elsewhere.
    pub(crate) value: Option<String>,
}

/// A port that a container says it listens on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Port {
    pub(crate) container_port: i64,
}

/// Which user a container runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SecurityContext {
    pub(crate) run_as_user: Option<i64>,
}

impl Pod {
    /// Reads what matters here.
    ///
    /// # Errors
    /// A part of it is of another kind than a pod's.
    pub(crate) fn read(value: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        let labels = self.metadata.as_ref()?.labels.as_ref()?;
        labels.get(name)?.as_deref()
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations().find(|(key, _)| *key == name)?.1
    }

    pub(crate) fn annotations(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let metadata = self.metadata.as_ref();
        let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
        let annotations = annotations.into_iter().flatten();
        annotations.map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    pub(crate) fn containers(&self) -> &[Container] {
        let spec = self.spec.as_ref();
        spec.and_then(|spec| spec.containers.as_deref())
            .unwrap_or_default()
    }

    pub(crate) fn init_containers(&self) -> &[Container] {
        let spec = self.spec.as_ref();
        spec.and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default()
    }

    /// Those of both lists.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers().iter().chain(self.containers())
    }

    pub(crate) fn has_container(&self, name: &str) -> bool {
        self.all_containers()
            .any(|container| container.name == name)
    }

    pub(crate) fn has_volume(&self, name: &str) -> bool {
        let spec = self.spec.as_ref();
        let volumes = spec.and_then(|spec| spec.volumes.as_deref());
        let mut volumes = volumes.unwrap_or_default().iter();
        volumes.any(|volume| volume.name.as_deref() == Some(name))
    }

    /// The user that a container's security context makes it run as. None: the one that its image says.
    pub(crate) fn user_of(&self, container: &Container) -> Option<i64> {
        let own = container.security_context.as_ref();
        let pods = self
            .spec
            .as_ref()
            .and_then(|spec| spec.security_context.as_ref());
        own.and_then(|context| context.run_as_user)
            .or_else(|| pods?.run_as_user)
    }

    pub(crate) fn is_for_windows(&self) -> bool {
        let Some(spec) = &self.spec else {
            return false;
        };
        let selected = spec.node_selector.as_ref().and_then(|selector| {
            let os = selector.get("kubernetes.io/os")?;
            os.as_deref()
        });
        let declared = spec.os.as_ref().and_then(|os| os.name.as_deref());
        [selected, declared].contains(&Some("windows"))
    }

    pub(crate) fn is_host_network(&self) -> bool {
        self.spec
            .as_ref()
            .is_some_and(|spec| spec.host_network == Some(true))
    }

    /// Whether it is expected to end by itself, as a Job's is.
    pub(crate) fn ends_by_itself(&self) -> bool {
        let policy = self
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        matches!(policy, Some("Never" | "OnFailure"))
    }
}
