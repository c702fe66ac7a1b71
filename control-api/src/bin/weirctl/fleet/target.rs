//! Whether a pod can be reached, and what it starts from: read from its manifest.

use control_api::well_known::POLICY_DIR;
use control_api::well_known::kubernetes::PROXY_CONTAINER;
use k8s_openapi::api::core::v1::{Container, Pod};

/// Whether the pod has a proxy that can be asked; why not, in words.
pub(super) fn check(pod: &Pod) -> Result<(), String> {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if proxy(pod).is_none() {
        return Err(format!("no container {PROXY_CONTAINER}"));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted".to_owned());
    }
    match phase {
        Some("Running") => Ok(()),
        phase => Err(format!("not running: {}", phase.unwrap_or("no phase yet"))),
    }
}

/// Whether the pod that was `uid` is no more, or not for long; `now` is what has its name.
pub(super) fn is_gone(uid: Option<&str>, now: Option<&Pod>) -> bool {
    now.is_none_or(|pod| {
        let has_ended = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
        pod.metadata.uid.as_deref() != uid || pod.metadata.deletion_timestamp.is_some() || has_ended
    })
}

/// The `ConfigMap` that is mounted as the proxy's policy.
pub(super) fn policy_config_map(pod: &Pod) -> Option<&str> {
    let mounts = proxy(pod)?.volume_mounts.as_ref()?;
    let mount = mounts.iter().find(|mount| mount.mount_path == POLICY_DIR)?;
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let volume = volumes.iter().find(|volume| volume.name == mount.name)?;
    Some(volume.config_map.as_ref()?.name.as_str())
}

/// Whether there is a proxy at all.
pub(super) fn has_proxy(pod: &Pod) -> bool {
    proxy(pod).is_some()
}

/// The proxy's container: a native sidecar is an init container that goes on.
fn proxy(pod: &Pod) -> Option<&Container> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers)
        .find(|container| container.name == PROXY_CONTAINER)
}

#[cfg(test)]
mod tests {
    use control_api::document::merge_patch;
    use serde_json::{Value, json};

    use super::*;

    fn pod(changes: &Value) -> Pod {
        let pod = json!({
            "metadata": {"name": "a", "uid": "1"},
            "spec": {
                "initContainers": [{"name": "weir-redirect"}, {"name": "weir-proxy", "volumeMounts": [
                    {"name": "weir-state", "mountPath": "/run/weir"},
                    {"name": "weir-policy", "mountPath": "/etc/weir/policy"},
                ]}],
                "containers": [{"name": "app"}],
                "volumes": [{"name": "weir-policy", "configMap": {"name": "checkout-policy"}}],
            },
            "status": {"phase": "Running"},
        });
        serde_json::from_value(merge_patch(pod, changes)).unwrap()
    }

    #[test]
    fn running_pods_with_a_proxy_of_either_kind_can_be_asked() {
        assert_eq!(check(&pod(&json!({}))), Ok(()));
        let classic = json!({"spec": {"initContainers": null, "containers": [{"name": "weir-proxy"}, {"name": "app"}]}});
        assert_eq!(check(&pod(&classic)), Ok(()));
        assert_eq!(
            check(&pod(&json!({"spec": {"initContainers": null}}))),
            Err("no container weir-proxy".to_owned())
        );
        assert_eq!(
            check(&pod(&json!({"status": {"phase": "Pending"}}))),
            Err("not running: Pending".to_owned())
        );
        let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-31T12:00:00Z"}});
        assert_eq!(check(&pod(&deleted)), Err("it is being deleted".to_owned()));
    }

    #[test]
    fn a_pod_is_gone_when_another_has_its_name() {
        let is_gone = |uid, changes| is_gone(Some(uid), Some(&pod(&changes)));
        assert!(!is_gone("1", json!({})));
        assert!(is_gone("2", json!({})));
        assert!(is_gone("1", json!({"status": {"phase": "Succeeded"}})));
        assert!(is_gone(
            "1",
            json!({"metadata": {"deletionTimestamp": "2026-01-31T12:00:00Z"}})
        ));
        assert!(super::is_gone(Some("1"), None));
    }

    #[test]
    fn the_config_map_is_the_one_that_is_mounted() {
        assert_eq!(policy_config_map(&pod(&json!({}))), Some("checkout-policy"));
        assert_eq!(
            policy_config_map(&pod(&json!({"spec": {"volumes": null}}))),
            None
        );
    }
}
