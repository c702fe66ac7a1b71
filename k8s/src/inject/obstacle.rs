//! What keeps a pod from being injected.

use control_api::well_known::kubernetes::{PREFIX, REDIRECT_CONTAINER};
use control_api::well_known::{ADMIN_PORT, EXPLICIT_PROXY_PORT, OUTBOUND_PORT};

use super::containers::{VOLUMES, is_ours};
use crate::options::{INJECT_LABEL, Options, Placement};
use crate::pod::{Container, Pod};
use crate::reason::{CONTAINERS_MAX, Skip};

/// A mesh that redirects connections as we do.
struct Mesh {
    name: &'static str,
    containers: &'static [&'static str],
    /// A label or annotation of a pod that asks for its sidecar, and the values that do.
    asked: (&'static str, &'static [&'static str]),
}

const MESHES: &[Mesh] = &[
    Mesh {
        name: "Istio",
        containers: &["istio-proxy", "istio-init", "istio-validation"],
        asked: ("sidecar.istio.io/inject", &["true"]),
    },
    Mesh {
        name: "Linkerd",
        containers: &["linkerd-proxy", "linkerd-init"],
        asked: ("linkerd.io/inject", &["enabled", "ingress"]),
    },
    Mesh {
        name: "Kuma",
        containers: &["kuma-sidecar", "kuma-init"],
        asked: ("kuma.io/sidecar-injection", &["enabled", "true"]),
    },
    Mesh {
        name: "Consul",
        containers: &[
            "consul-dataplane",
            "consul-connect-inject-init",
            "envoy-sidecar",
        ],
        asked: ("consul.hashicorp.com/connect-inject", &["true"]),
    },
];

/// What no option can help with.
pub(super) fn before_options(pod: &Pod) -> Result<(), Skip> {
    let label = pod.label(&format!("{PREFIX}{INJECT_LABEL}"));
    // `false` is what other meshes write; who writes it here means it.
    if matches!(label, Some("disabled" | "false")) {
        return Err(Skip::Disabled);
    }
    if pod.annotation("kubernetes.io/config.mirror").is_some() {
        return Err(Skip::MirrorPod);
    }
    if pod.is_for_windows() {
        return Err(Skip::WindowsPod);
    }
    if pod.is_host_network() {
        return Err(Skip::HostNetwork);
    }
    let theirs = |container: &&Container| !is_ours(&container.name);
    let count = pod.all_containers().filter(theirs).count();
    if count > CONTAINERS_MAX {
        return Err(Skip::TooManyContainers { count });
    }
    match MESHES.iter().find(|mesh| mesh.has(pod)) {
        Some(mesh) => Err(Skip::OtherMesh { mesh: mesh.name }),
        None => Ok(()),
    }
}

impl Mesh {
    fn has(&self, pod: &Pod) -> bool {
        let (key, values) = self.asked;
        let asks = |value: Option<&str>| value.is_some_and(|value| values.contains(&value));
        self.containers.iter().any(|name| pod.has_container(name))
            || asks(pod.label(key))
            || asks(pod.annotation(key))
    }
}

/// What stands in the way of a sidecar that is not there yet.
pub(super) fn before_injection(pod: &Pod, options: &Options) -> Result<(), Skip> {
    if pod.has_container(REDIRECT_CONTAINER) {
        return Err(Skip::SidecarExists {
            what: format!("container {REDIRECT_CONTAINER}"),
        });
    }
    if let Some(name) = VOLUMES.iter().find(|name| pod.has_volume(name)) {
        return Err(Skip::SidecarExists {
            what: format!("volume {name}"),
        });
    }
    if options.placement == Placement::Classic && pod.ends_by_itself() {
        return Err(Skip::ClassicJob);
    }
    if options.interception.redirects() {
        uid_clash(pod, options.proxy_uid)?;
    }
    port_clash(pod)
}

fn uid_clash(pod: &Pod, uid: u32) -> Result<(), Skip> {
    let mut containers = pod.all_containers();
    let clashing = containers.find(|container| pod.user_of(container) == Some(i64::from(uid)));
    match clashing {
        Some(container) => Err(Skip::UidClash {
            container: container.name.clone(),
            uid,
        }),
        None => Ok(()),
    }
}

fn port_clash(pod: &Pod) -> Result<(), Skip> {
    let ours = [OUTBOUND_PORT, ADMIN_PORT, EXPLICIT_PROXY_PORT].map(i64::from);
    for container in pod.all_containers() {
        let ports = container.ports.iter().flatten();
        if let Some(port) = ports
            .map(|port| port.container_port)
            .find(|port| ours.contains(port))
        {
            return Err(Skip::PortClash {
                container: container.name.clone(),
                port,
            });
        }
    }
    Ok(())
}
