//! What a pod's annotations may change, and what the injector's settings give where they say nothing.
//!
//! [`ANNOTATIONS`] has all of them; settings use the same names.

mod annotation;

use std::time::Duration;

use control_api::policy::Mode;
use control_api::well_known::PROXY_UID;
use control_api::well_known::kubernetes::{POLICY_CONFIG_MAP, PREFIX};

use crate::values::{InvalidValue, Quantity};
pub use annotation::{ANNOTATIONS, Annotation};

/// How a pod's calls come to weir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interception {
    /// By redirect rules, which an init step installs.
    Redirect,
    /// By redirect rules that somebody else installs, such as the node's network plug-in; an init step proves them.
    Verify,
    /// By `HTTP_PROXY` and the like in the environment of the pod's containers.
    Env,
    /// Not at all by the injector's doing: the application uses the explicit proxy of its own accord.
    None,
}

impl Interception {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Verify => "verify",
            Self::Env => "env",
            Self::None => "none",
        }
    }

    /// Whether connections are redirected, so that it matters who opens them.
    #[must_use]
    pub fn redirects(self) -> bool {
        matches!(self, Self::Redirect | Self::Verify)
    }
}

/// Where the proxy's container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// A native sidecar: an init container that goes on, before all others (Kubernetes 1.29 and later).
    Native,
    /// A container beside the application's.
    Classic,
}

/// How long the proxy serves on after SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainTime {
    /// As it was written.
    pub text: String,
    /// Its length.
    pub length: Duration,
}

/// Bounds of what the proxy may use. Absent ones are not set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// What the scheduler reserves of a processor.
    pub cpu_request: Option<Quantity>,
    /// Most of a processor. Absent by default: throttling delays calls.
    pub cpu_limit: Option<Quantity>,
    /// What the scheduler reserves of memory.
    pub memory_request: Option<Quantity>,
    /// Most memory.
    pub memory_limit: Option<Quantity>,
}

/// What can be chosen for a single pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How its calls come to weir.
    pub interception: Interception,
    /// Where the proxy's container stands.
    pub placement: Placement,
    /// The proxy's user id.
    pub proxy_uid: u32,
    /// Ports that are not redirected.
    pub skip_outbound_ports: String,
    /// Addresses that are not redirected.
    pub skip_outbound_cidrs: String,
    /// Whether packets that belong to no connection are dropped instead of reset.
    pub drop_invalid: bool,
    /// Ports whose connections are forwarded as they are.
    pub opaque_ports: String,
    /// What the proxy may use.
    pub resources: Resources,
    /// How much the proxy logs. Empty: as much as it does by itself.
    pub log_level: String,
    /// The `ConfigMap` with the policy.
    pub policy: String,
    /// The mode of calls of which no policy says one.
    pub mode: Mode,
    /// How long the proxy serves on. None: what the placement needs.
    pub drain_time: Option<DrainTime>,
    /// Share of root traces that are exported. Empty: what the proxy does by itself.
    pub trace_sample_ratio: String,
}

impl Default for Options {
    fn default() -> Self {
        let amount = |text| Quantity::parse(text).ok();
        Self {
            interception: Interception::Redirect,
            placement: Placement::Native,
            proxy_uid: PROXY_UID,
            skip_outbound_ports: String::new(),
            skip_outbound_cidrs: String::new(),
            drop_invalid: false,
            opaque_ports: String::new(),
            resources: Resources {
                // An idle proxy; a busy one takes what is free.
                cpu_request: amount("10m"),
                cpu_limit: None,
                memory_request: amount("32Mi"),
                // Kept bodies (32 MiB) and 6,000 idle connections fit below the mark from which new calls are refused.
                memory_limit: amount("256Mi"),
            },
            log_level: String::new(),
            policy: POLICY_CONFIG_MAP.to_owned(),
            mode: Mode::default(),
            drain_time: None,
            trace_sample_ratio: String::new(),
        }
    }
}

/// The label, of a namespace or a pod, that asks for the sidecar (`enabled`) or forbids it (`disabled`).
pub const INJECT_LABEL: &str = "inject";

/// The annotation that the injector writes.
pub const STATUS_ANNOTATION: &str = "status";

/// A name or a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// There is no such option.
    #[error("{PREFIX}{name} is unknown; nearest is {PREFIX}{nearest}")]
    Unknown {
        /// The name without its prefix.
        name: String,
        /// The name that is most like it.
        nearest: &'static str,
    },
    /// The value is not what it should be.
    #[error("{PREFIX}{name}: {source}")]
    Invalid {
        /// The name without its prefix.
        name: &'static str,
        /// What is wrong.
        source: InvalidValue,
    },
    /// Rules that are there before a classic proxy is.
    #[error(
        "{PREFIX}interception: verify needs {PREFIX}native: true, or the pod's init containers are redirected to a proxy that is not there yet"
    )]
    VerifyNeedsNative,
    /// A request above its limit, which Kubernetes would refuse.
    #[error(
        "{PREFIX}proxy-{what}-request is above {PREFIX}proxy-{what}-limit; raise the limit too"
    )]
    RequestAboveLimit {
        /// `cpu` or `memory`.
        what: &'static str,
    },
}

impl Options {
    /// Sets the option `name`, which has no prefix.
    ///
    /// # Errors
    /// [`OptionError`]; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let Some(annotation) = ANNOTATIONS.iter().find(|known| known.name == name) else {
            return Err(OptionError::Unknown {
                name: name.to_owned(),
                nearest: nearest(name),
            });
        };
        (annotation.set)(self, value).map_err(|source| OptionError::Invalid {
            name: annotation.name,
            source,
        })
    }

    /// Checks what only several options together can be wrong about.
    ///
    /// # Errors
    /// [`OptionError::RequestAboveLimit`], [`OptionError::VerifyNeedsNative`]
    pub fn check(&self) -> Result<(), OptionError> {
        if self.interception == Interception::Verify && self.placement == Placement::Classic {
            return Err(OptionError::VerifyNeedsNative);
        }
        let above = |request: &Option<Quantity>, limit: &Option<Quantity>| match (request, limit) {
            (Some(request), Some(limit)) => request.exceeds(limit),
            _ => false,
        };
        let resources = &self.resources;
        if above(&resources.cpu_request, &resources.cpu_limit) {
            return Err(OptionError::RequestAboveLimit { what: "cpu" });
        }
        if above(&resources.memory_request, &resources.memory_limit) {
            return Err(OptionError::RequestAboveLimit { what: "memory" });
        }
        Ok(())
    }
}

/// The known name that is most like `name`.
#[must_use]
pub fn nearest(name: &str) -> &'static str {
    let known = ANNOTATIONS.iter().map(|annotation| annotation.name);
    known
        .max_by_key(|known| likeness(name, known))
        .unwrap_or_default()
}

/// How much of two names is their longest common subsequence, in thousandths: a left-out word counts for little.
fn likeness(name: &str, known: &str) -> usize {
    // A name is at most 63 letters; what is longer is no typo of ours.
    let name: Vec<char> = name.chars().take(NAME_MAX).collect();
    let width = known.chars().count();
    let mut row = vec![0; width + 1];
    for letter in &name {
        let mut left = 0;
        let mut next = vec![left];
        for (other, above) in known.chars().zip(row.windows(2)) {
            let [diagonal, above] = above else { continue };
            let kept = diagonal + usize::from(other == *letter);
            left = kept.max(left).max(*above);
            next.push(left);
        }
        row = next;
    }
    let common = row.last().copied().unwrap_or_default();
    2000 * common / (name.len() + width)
}

const NAME_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_named_with_the_nearest_right_name() {
        for (typo, right) in [
            ("skip-outbound-port", "skip-outbound-ports"),
            ("skip-ports", "skip-outbound-ports"),
            ("opaque-port", "opaque-ports"),
            ("loglevel", "log-level"),
            ("drain-time", "drain-timeout"),
            ("proxy-cpu-limits", "proxy-cpu-limit"),
        ] {
            assert_eq!(nearest(typo), right);
        }
        let error = Options::default().set("polcy", "x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "weir.dev/polcy is unknown; nearest is weir.dev/policy"
        );
    }

    #[test]
    fn every_option_says_what_it_expected() {
        let mut options = Options::default();
        for annotation in ANNOTATIONS {
            let error = options.set(annotation.name, "!").unwrap_err().to_string();
            assert!(error.contains("`!` is not "), "{error}");
            assert!(error.len() < 200, "{error}");
        }
        assert_eq!(options, Options::default());
    }

    #[test]
    fn rules_that_are_there_before_the_proxy_need_one_that_comes_first() {
        let mut options = Options::default();
        options.set("interception", "verify").unwrap();
        assert_eq!(options.check(), Ok(()));
        options.set("native", "false").unwrap();
        assert_eq!(options.check(), Err(OptionError::VerifyNeedsNative));
    }

    #[test]
    fn a_request_above_its_limit_is_refused_before_kubernetes_does() {
        let mut options = Options::default();
        assert_eq!(options.check(), Ok(()));
        options.set("proxy-memory-request", "1Gi").unwrap();
        assert!(options.check().is_err());
        options.set("proxy-memory-limit", "2Gi").unwrap();
        assert_eq!(options.check(), Ok(()));
    }
}
