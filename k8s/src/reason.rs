//! Why a pod was not injected, or what its owner should know: a stable code for machines, a text for people.
//!
//! `kubectl` prints the texts as warnings. The API server cuts a text at 256 bytes, so the way out comes early.

use std::fmt;

use control_api::well_known::kubernetes::PREFIX;

use crate::options::OptionError;

/// Most containers of a pod that is injected, of all kinds and without ours: more than any pod has, and a patch for each of them
/// still fits into the injector's memory.
pub const CONTAINERS_MAX: usize = 250;

/// Why a pod is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// Its label says so.
    Disabled,
    /// The kubelet's picture of a static pod, which cannot be changed.
    MirrorPod,
    /// The sidecar is there already.
    AlreadyInjected,
    /// A container or a volume has a name of ours, but was not put there by us.
    SidecarExists {
        /// Which.
        what: String,
    },
    /// Its connections are its node's.
    HostNetwork,
    /// There is no proxy for its system.
    WindowsPod,
    /// It carries another mesh's sidecar, or asks for one.
    OtherMesh {
        /// The mesh.
        mesh: &'static str,
    },
    /// A container runs as the proxy's user, so its calls would pass weir by unnoticed.
    UidClash {
        /// The container.
        container: String,
        /// The user id.
        uid: u32,
    },
    /// A container listens where the proxy does.
    PortClash {
        /// The container.
        container: String,
        /// The port.
        port: i64,
    },
    /// So many containers that the patch would take too much memory.
    TooManyContainers {
        /// How many.
        count: usize,
    },
    /// A container beside the application's would keep a pod alive that is to end.
    ClassicJob,
    /// An annotation's value cannot be used.
    InvalidAnnotation(OptionError),
}

impl Skip {
    /// The code, for metrics and audit logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Disabled => "injection_disabled",
            Self::MirrorPod => "mirror_pod",
            Self::AlreadyInjected => "already_injected",
            Self::SidecarExists { .. } => "sidecar_already_exists",
            Self::HostNetwork => "host_network_enabled",
            Self::WindowsPod => "windows_pod",
            Self::OtherMesh { .. } => "other_mesh",
            Self::UidClash { .. } => "uid_clash",
            Self::PortClash { .. } => "port_clash",
            Self::TooManyContainers { .. } => "too_many_containers",
            Self::ClassicJob => "classic_job",
            Self::InvalidAnnotation(_) => "invalid_annotation",
        }
    }

    /// Whether somebody should be told: not what was asked for, nor what has happened already.
    #[must_use]
    pub fn is_news(&self) -> bool {
        !matches!(
            self,
            Self::Disabled | Self::MirrorPod | Self::AlreadyInjected
        )
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir: not injected ({}): ", self.code())?;
        match self {
            Self::Disabled => write!(f, "the label {PREFIX}inject says disabled"),
            Self::MirrorPod => f.write_str("a static pod cannot be changed"),
            Self::AlreadyInjected => f.write_str("the sidecar is there"),
            Self::SidecarExists { what } => write!(
                f,
                "the pod has a {what} that the injector did not make; remove it, or label the pod {PREFIX}inject=disabled"
            ),
            Self::HostNetwork => {
                f.write_str("with hostNetwork the rules would redirect the node's connections")
            }
            Self::WindowsPod => f.write_str("the proxy runs on Linux only"),
            Self::OtherMesh { mesh } => write!(
                f,
                "the pod is in {mesh}'s mesh; two meshes would redirect each other. Take it out of one of them"
            ),
            Self::UidClash { container, uid } => write!(
                f,
                "{container} runs as user {uid}, the proxy's own, so its calls would bypass weir; annotate {PREFIX}proxy-uid with another"
            ),
            Self::PortClash { container, port } => write!(
                f,
                "{container} listens on port {port}, which the proxy needs; move it to another"
            ),
            Self::TooManyContainers { count } => write!(
                f,
                "the pod has {count} containers; up to {CONTAINERS_MAX} are injected"
            ),
            Self::ClassicJob => write!(
                f,
                "a classic sidecar never ends, and the pod would not either; annotate {PREFIX}native: \"true\" (Kubernetes 1.29)"
            ),
            Self::InvalidAnnotation(error) => error.fmt(f),
        }
    }
}

/// What the owner of an injected pod should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// An annotation of ours that does not exist.
    UnknownAnnotation(OptionError),
    /// The label was written as an annotation.
    LabelAsAnnotation,
    /// The namespace forbids what the redirect rules need.
    PsaForbidsNetAdmin,
    /// A container has a proxy's variable of its own, which was left alone.
    ProxyVariableKept {
        /// The container.
        container: String,
        /// The variable.
        variable: &'static str,
    },
    /// The sidecar is there, as other settings wanted it.
    StaleInjection,
}

impl Warning {
    /// The code, for metrics and audit logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownAnnotation(_) => "unknown_annotation",
            Self::LabelAsAnnotation => "label_as_annotation",
            Self::PsaForbidsNetAdmin => "psa_forbids_net_admin",
            Self::ProxyVariableKept { .. } => "proxy_variable_kept",
            Self::StaleInjection => "stale_injection",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir: {}: ", self.code())?;
        match self {
            Self::UnknownAnnotation(error) => error.fmt(f),
            Self::LabelAsAnnotation => write!(
                f,
                "{PREFIX}inject is a label; as an annotation it does nothing"
            ),
            Self::PsaForbidsNetAdmin => write!(
                f,
                "the namespace's Pod Security forbids NET_ADMIN, so calls are taken by HTTP_PROXY instead of redirect rules; clients that ignore it bypass weir"
            ),
            Self::ProxyVariableKept {
                container,
                variable,
            } => write!(
                f,
                "{container} has {variable} of its own; calls that follow it bypass weir"
            ),
            Self::StaleInjection => f.write_str(
                "the sidecar is there already, made with other settings; create the pod from its template",
            ),
        }
    }
}

/// Every code of [`Skip`], and what it means.
pub const SKIPS: &[(&str, &str)] = &[
    (
        "injection_disabled",
        "The label `weir.dev/inject: disabled`. No warning.",
    ),
    (
        "mirror_pod",
        "The kubelet's picture of a static pod, which cannot be changed. No warning.",
    ),
    (
        "already_injected",
        "The sidecar is there. No warning, unless it was made with other settings.",
    ),
    (
        "sidecar_already_exists",
        "A container or volume has a name of weir's, but no `weir.dev/status` beside it.",
    ),
    (
        "host_network_enabled",
        "The rules would redirect the node's connections.",
    ),
    ("windows_pod", "The proxy runs on Linux only."),
    (
        "other_mesh",
        "A sidecar of Istio, Linkerd, Kuma or Consul is there or asked for: two meshes would redirect each other.",
    ),
    (
        "uid_clash",
        "A container runs as the proxy's user (19400), so its calls would bypass weir unnoticed. `weir.dev/proxy-uid` chooses another.",
    ),
    (
        "port_clash",
        "A container listens on 19401, 19402 or 19403.",
    ),
    (
        "too_many_containers",
        "There are more than 250 of them: a patch for each would take too much memory.",
    ),
    (
        "classic_job",
        "A classic sidecar never ends, and a Job's pod would not either.",
    ),
    (
        "invalid_annotation",
        "A value cannot be used; the warning says what was expected. To go on without it could redirect what must not be.",
    ),
];

/// Every code of [`Warning`], and what it means.
pub const WARNINGS: &[(&str, &str)] = &[
    (
        "unknown_annotation",
        "There is no such annotation; the warning names the nearest one.",
    ),
    (
        "label_as_annotation",
        "`weir.dev/inject` is a label; as an annotation it does nothing.",
    ),
    (
        "psa_forbids_net_admin",
        "Pod Security forbids `NET_ADMIN`, so calls are taken by `HTTP_PROXY`; clients that ignore it bypass weir.",
    ),
    (
        "proxy_variable_kept",
        "A container has `HTTP_PROXY` or the like of its own, which was kept.",
    ),
    (
        "stale_injection",
        "The sidecar is there, made with other settings than today's; create the pod from its template.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_tables() {
        let container = || "app".to_owned();
        let invalid = || OptionError::RequestAboveLimit { what: "cpu" };
        let skips = [
            Skip::Disabled,
            Skip::MirrorPod,
            Skip::AlreadyInjected,
            Skip::SidecarExists { what: container() },
            Skip::HostNetwork,
            Skip::WindowsPod,
            Skip::OtherMesh { mesh: "Istio" },
            Skip::UidClash {
                container: container(),
                uid: 1,
            },
            Skip::PortClash {
                container: container(),
                port: 1,
            },
            Skip::TooManyContainers { count: 251 },
            Skip::ClassicJob,
            Skip::InvalidAnnotation(invalid()),
        ];
        let codes: Vec<&str> = SKIPS.iter().map(|(code, _)| *code).collect();
        assert_eq!(skips.each_ref().map(Skip::code).to_vec(), codes);
        let warnings = [
            Warning::UnknownAnnotation(invalid()),
            Warning::LabelAsAnnotation,
            Warning::PsaForbidsNetAdmin,
            Warning::ProxyVariableKept {
                container: container(),
                variable: "HTTP_PROXY",
            },
            Warning::StaleInjection,
        ];
        let codes: Vec<&str> = WARNINGS.iter().map(|(code, _)| *code).collect();
        assert_eq!(warnings.each_ref().map(Warning::code).to_vec(), codes);
    }
}
