//! The one table of what can be set: name, meaning, and how the value is read.

use control_api::policy::Mode;

use super::{DrainTime, Interception, Options, Placement};
use crate::values::{self, InvalidValue, Quantity};

/// An annotation of a pod, without its prefix.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// What follows `weir.dev/`.
    pub name: &'static str,
    /// What it does, and what may stand in it.
    pub meaning: &'static str,
    pub(super) set: fn(&mut Options, &str) -> Result<(), InvalidValue>,
}

/// Every annotation that can be set on a pod.
pub const ANNOTATIONS: &[Annotation] = &[
    Annotation {
        name: "interception",
        meaning: "`redirect` (rules of the kernel), `verify` (rules that somebody else installs, with the same exceptions; the pod proves them, with a native sidecar only), `env` (HTTP_PROXY and the like) or `none`. Where Pod Security forbids NET_ADMIN, `redirect` becomes `env`.",
        set: |options, value| {
            options.interception = values::choice(
                value,
                "redirect, verify, env or none",
                [
                    Interception::Redirect,
                    Interception::Verify,
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
        meaning: "`true`: TCP packets that belong to no connection are dropped instead of answered with a reset. For nodes whose connection tracking loses some (`connection reset by peer` on long transfers). An end that comes after a minute of half-closed silence is then not seen either. `false` by default; a part of the rules, and so not of `verify`.",
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
