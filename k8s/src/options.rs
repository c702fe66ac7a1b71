//! What a pod's annotations may change, and what the injector's settings give where they say nothing.
//!
//! [`ANNOTATIONS`] is the one table: name, meaning, and how the value is read. Settings use the same names.

use std::time::Duration;

use control_api::policy::Mode;
use control_api::well_known::PROXY_UID;
use control_api::well_known::kubernetes::{POLICY_CONFIG_MAP, PREFIX};

use crate::values::{self, InvalidValue, Quantity};

/// How a pod's calls come to weir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interception {
    /// By redirect rules, which an init step installs.
    Redirect,
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
            Self::Env => "env",
            Self::None => "none",
        }
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
                // Kept bodies (32 MiB) and 10,000 connections fit.
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

/// An annotation of a pod, without its prefix.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// What follows `weir.dev/`.
    pub name: &'static str,
    /// What it does, and what may stand in it.
    pub meaning: &'static str,
    set: fn(&mut Options, &str) -> Result<(), InvalidValue>,
}

/// Every annotation that can be set on a pod.
pub const ANNOTATIONS: &[Annotation] = &[
    Annotation {
        name: "interception",
        meaning: "`redirect` (rules of the kernel), `env` (HTTP_PROXY and the like) or `none`. Where Pod Security forbids NET_ADMIN, `redirect` becomes `env`.",
        set: |options, value| {
            options.interception = values::choice(
                value,
                "redirect, env or none",
                [
                    Interception::Redirect,
                    Interception::Env,
                    Interception::None,
                ]
                .map(|way| (way.name(), way)),
            )?;
            Ok(())
        },
    },
    Annotation {
        name: "native",
        meaning: "`true`: a native sidecar, which starts before and ends after all other containers; needs Kubernetes 1.29. `false`: a container beside the application's.",
        set: |options, value| {
            options.placement = values::choice(
                value,
                "true or false",
                [("true", Placement::Native), ("false", Placement::Classic)],
            )?;
            Ok(())
        },
    },
    Annotation {
        name: "skip-outbound-ports",
        meaning: "Destination ports that are not redirected, such as `3306,9000-9100`.",
        set: |options, value| {
            options.skip_outbound_ports = values::port_ranges(value)?;
            Ok(())
        },
    },
    Annotation {
        name: "skip-outbound-cidrs",
        meaning: "Destination addresses that are not redirected, such as `169.254.169.254,10.0.0.0/8`.",
        set: |options, value| {
            options.skip_outbound_cidrs = values::cidrs(value)?;
            Ok(())
        },
    },
    Annotation {
        name: "drop-invalid",
        meaning: "`true`: TCP packets that belong to no connection are dropped instead of answered with a reset. For nodes whose connection tracking loses some (`connection reset by peer` on long transfers). `false` by default.",
        set: |options, value| {
            options.drop_invalid =
                values::choice(value, "true or false", [("true", true), ("false", false)])?;
            Ok(())
        },
    },
    Annotation {
        name: "opaque-ports",
        meaning: "Destination ports that are forwarded as they are, without a look at what is spoken, such as `5433,6380`; the well-known ones of databases are already.",
        set: |options, value| {
            options.opaque_ports = values::ports(value)?;
            Ok(())
        },
    },
    Annotation {
        name: "proxy-cpu-request",
        meaning: "What the scheduler reserves of a processor for the proxy, such as `20m`.",
        set: |options, value| {
            options.resources.cpu_request = Some(Quantity::parse(value)?);
            Ok(())
        },
    },
    Annotation {
        name: "proxy-cpu-limit",
        meaning: "Most of a processor that the proxy gets; a tight one delays calls.",
        set: |options, value| {
            options.resources.cpu_limit = Some(Quantity::parse(value)?);
            Ok(())
        },
    },
    Annotation {
        name: "proxy-memory-request",
        meaning: "What the scheduler reserves of memory for the proxy, such as `32Mi`.",
        set: |options, value| {
            options.resources.memory_request = Some(Quantity::parse(value)?);
            Ok(())
        },
    },
    Annotation {
        name: "proxy-memory-limit",
        meaning: "Most memory that the proxy gets; beyond it it is killed.",
        set: |options, value| {
            options.resources.memory_limit = Some(Quantity::parse(value)?);
            Ok(())
        },
    },
    Annotation {
        name: "log-level",
        meaning: "How much the proxy logs: `error`, `warn`, `info`, `debug`, `trace` or `off`; `info,weir::access=info` logs each call.",
        set: |options, value| {
            options.log_level = values::log_level(value)?;
            Ok(())
        },
    },
    Annotation {
        name: "policy",
        meaning: "Name of the ConfigMap whose key `policy.yaml` is the policy; it may be absent.",
        set: |options, value| {
            options.policy = values::object_name(value)?;
            Ok(())
        },
    },
    Annotation {
        name: "mode",
        meaning: "What becomes of calls of which no policy says a mode: `enforce`, `observe` (decide and count, but let every call pass) or `off` (ids and traces only). A policy that states a mode wins.",
        set: |options, value| {
            let modes = Mode::ALL.map(|mode| (mode.word(), mode));
            options.mode = values::choice(value, "enforce, observe or off", modes)?;
            Ok(())
        },
    },
    Annotation {
        name: "drain-timeout",
        meaning: "Longest time that the proxy serves on after it was told to end, such as `20s`.",
        set: |options, value| {
            let (text, length) = values::length(value)?;
            options.drain_time = Some(DrainTime { text, length });
            Ok(())
        },
    },
    Annotation {
        name: "trace-sample-ratio",
        meaning: "Share of the traces that begin here which are exported, from 0 to 1; the caller's choice is kept, and what ends badly is always exported.",
        set: |options, value| {
            options.trace_sample_ratio = values::ratio(value)?;
            Ok(())
        },
    },
    Annotation {
        name: "proxy-uid",
        meaning: "The user id that the proxy runs as, where 19400 is taken.",
        set: |options, value| {
            options.proxy_uid = values::uid(value)?;
            Ok(())
        },
    },
];

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
    /// [`OptionError::RequestAboveLimit`]
    pub fn check(&self) -> Result<(), OptionError> {
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
    fn a_request_above_its_limit_is_refused_before_kubernetes_does() {
        let mut options = Options::default();
        assert_eq!(options.check(), Ok(()));
        options.set("proxy-memory-request", "1Gi").unwrap();
        assert!(options.check().is_err());
        options.set("proxy-memory-limit", "2Gi").unwrap();
        assert_eq!(options.check(), Ok(()));
    }
}
