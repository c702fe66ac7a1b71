//! What the pod's proxy is configured with: one environment variable a setting.
//!
//! [`SETTINGS`] is the reference: name, default, meaning. The documentation is held equal to it by a test.

mod reader;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control_api::policy::Mode;

use crate::intercept::handover::WORKERS_MAX;
use crate::upstream::connect;
pub use reader::InvalidSetting;
use reader::Reader;

/// A setting as people read about it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// What holds when it is absent; empty for "nothing".
    pub default: &'static str,
    /// What it means, with its unit and the reason for its default.
    pub meaning: &'static str,
}

/// Every setting of `weir proxy`; an empty variable counts as absent. The standard `OTEL_*` variables are read as well.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "WEIR_WORKERS",
        default: "1",
        meaning: "Threads that forward calls, 1 to 64. One serves more than 20,000 calls a second; each further one costs memory and its own connections.",
    },
    Setting {
        name: "WEIR_OUTBOUND_ADDRS",
        default: "127.0.0.1:19401,[::1]:19401",
        meaning: "Where redirected connections arrive, separated by commas. Loopback only: nobody outside the pod may use them.",
    },
    Setting {
        name: "WEIR_EXPLICIT_PROXY_ADDRS",
        default: "127.0.0.1:19403,[::1]:19403",
        meaning: "Where the explicit HTTP proxy listens, separated by commas; `none` for nowhere.",
    },
    Setting {
        name: "WEIR_ADMIN_ADDR",
        default: "0.0.0.0:19402",
        meaning: "Where /metrics, /livez, /readyz and the live page are served; read only. `[::]:19402` serves both families.",
    },
    Setting {
        name: "WEIR_CONTROL_SOCKET",
        default: "/run/weir/control.sock",
        meaning: "The control API's Unix socket.",
    },
    Setting {
        name: "WEIR_CONTROL_ADDR",
        default: "",
        meaning: "A loopback TCP address for the control API as well. Needs WEIR_CONTROL_TOKEN_FILE.",
    },
    Setting {
        name: "WEIR_CONTROL_TOKEN_FILE",
        default: "",
        meaning: "File with the bearer token for WEIR_CONTROL_ADDR; read again for each request.",
    },
    Setting {
        name: "WEIR_POLICY_FILE",
        default: "",
        meaning: "The policy document (YAML or JSON); watched, so a ConfigMap update takes effect by itself.",
    },
    Setting {
        name: "WEIR_MODE",
        default: "enforce",
        meaning: "The mode of calls of which no policy says one: enforce, observe (decide and count, but let pass) or off. A policy that states a mode wins, wherever it comes from; so a whole fleet can be watched first, and acted on service by service.",
    },
    Setting {
        name: "WEIR_STATE_DIR",
        default: "",
        meaning: "Directory for the last good policy, so that a restarted proxy starts with it. Absent: nothing is kept.",
    },
    Setting {
        name: "WEIR_CONNECT_TIMEOUT",
        default: "5s",
        meaning: "Longest TCP handshake with a destination. Longer than a lost SYN and its first two repeats (3 s).",
    },
    Setting {
        name: "WEIR_IDLE_TIMEOUT",
        default: "4s",
        meaning: "How long an unused HTTP/1 connection to a destination is kept. Below the 5 s after which common servers close theirs.",
    },
    Setting {
        name: "WEIR_IDLE_CONNECTIONS_MAX",
        default: "256",
        meaning: "Unused HTTP/1 connections kept per destination address and worker.",
    },
    Setting {
        name: "WEIR_HEADER_BYTES_MAX",
        default: "65536",
        meaning: "Largest header section in bytes, heads and trailers, in both directions. Over it a request gets 431, a response 502, trailers end their call; far over it an HTTP/2 connection ends.",
    },
    Setting {
        name: "WEIR_CONNECTIONS_MAX",
        default: "10000",
        meaning: "Connections of the application that are open at a time, all workers together; at the bound accepting pauses. Fewer where the limit of open files (which is raised as far as it may be) leaves less than two descriptors for each.",
    },
    Setting {
        name: "WEIR_MEMORY_MAX",
        default: "",
        meaning: "The memory that this process may have, such as `256Mi` or a number of bytes: the container's limit. From 70 % of it until it is below 60 % again, or below 70 % for a second, new connections wait (all but one a second) and new calls are shed (`memory`) unless they are the only one of their destination; calls in flight go on. Absent: no bound.",
    },
    Setting {
        name: "WEIR_BODY_BYTES_TOTAL_MAX",
        default: "33554432",
        meaning: "Bytes of request bodies that are kept for retries, all calls together; beyond it bodies stream and are not retried.",
    },
    Setting {
        name: "WEIR_DRAIN_TIME",
        default: "20s",
        meaning: "After SIGTERM: longest time to serve as before, for the application's sake. Calls in flight then get 5 s more; both together stay below a pod's usual grace period of 30 s.",
    },
    Setting {
        name: "WEIR_PROXY_UID",
        default: "",
        meaning: "The user whose connections the redirect rules leave alone, which is this process's. Connections of other processes of the pod under it bypass weir: they are looked for, counted (`weir_bypass_connections_seen_total`) and logged. Absent: not looked for, since outside a pod other programs may well be this user's.",
    },
    Setting {
        name: "WEIR_OPAQUE_PORTS",
        default: "",
        meaning: "Destination ports that are forwarded without a look at what is spoken, separated by commas; beside those of the policy and the well-known ones of databases. For what one pod needs and a shared policy does not say.",
    },
    Setting {
        name: "WEIR_LOG_LEVEL",
        default: "info",
        meaning: "error, warn, info, debug, trace or off, or several with targets before them. `info,weir::access=info` logs each call.",
    },
];

/// The settings of one proxy, parsed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `WEIR_WORKERS`
    pub workers: usize,
    /// `WEIR_OUTBOUND_ADDRS`
    pub outbound_addrs: Vec<SocketAddr>,
    /// `WEIR_EXPLICIT_PROXY_ADDRS`
    pub explicit_proxy_addrs: Vec<SocketAddr>,
    /// `WEIR_ADMIN_ADDR`
    pub admin_addr: SocketAddr,
    /// `WEIR_CONTROL_SOCKET`
    pub control_socket: PathBuf,
    /// `WEIR_CONTROL_ADDR`
    pub control_addr: Option<SocketAddr>,
    /// `WEIR_CONTROL_TOKEN_FILE`
    pub control_token_file: Option<PathBuf>,
    /// `WEIR_POLICY_FILE`
    pub policy_file: Option<PathBuf>,
    /// `WEIR_MODE`
    pub mode: Mode,
    /// `WEIR_STATE_DIR`
    pub state_dir: Option<PathBuf>,
    /// How connections to destinations are made.
    pub upstream: connect::Settings,
    /// `WEIR_CONNECTIONS_MAX`
    pub connections_max: usize,
    /// `WEIR_MEMORY_MAX`
    pub memory_max: Option<u64>,
    /// `WEIR_BODY_BYTES_TOTAL_MAX`
    pub body_bytes_total_max: usize,
    /// `WEIR_DRAIN_TIME`
    pub drain_time: Duration,
    /// `WEIR_PROXY_UID`
    pub proxy_uid: Option<u32>,
    /// `WEIR_OPAQUE_PORTS`
    pub opaque_ports: Vec<u16>,
    /// `WEIR_LOG_LEVEL`
    pub log_level: String,
}

impl Settings {
    /// Reads every setting through `get`, and reports all that are wrong at once.
    ///
    /// # Errors
    /// One entry a variable that cannot be used.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<InvalidSetting>> {
        let mut read = Reader::new(&get);
        let settings = Self {
            workers: read.number("WEIR_WORKERS", 1, WORKERS_MAX),
            outbound_addrs: read.loopback_addrs("WEIR_OUTBOUND_ADDRS"),
            explicit_proxy_addrs: read.loopback_addrs("WEIR_EXPLICIT_PROXY_ADDRS"),
            admin_addr: read.addr("WEIR_ADMIN_ADDR"),
            control_socket: read.path("WEIR_CONTROL_SOCKET").unwrap_or_default(),
            control_addr: read.loopback_addr("WEIR_CONTROL_ADDR"),
            control_token_file: read.path("WEIR_CONTROL_TOKEN_FILE"),
            policy_file: read.path("WEIR_POLICY_FILE"),
            mode: read.mode("WEIR_MODE"),
            state_dir: read.path("WEIR_STATE_DIR"),
            upstream: connect::Settings {
                connect_timeout: read.duration("WEIR_CONNECT_TIMEOUT"),
                idle_timeout: read.duration("WEIR_IDLE_TIMEOUT"),
                idle_max: read.number("WEIR_IDLE_CONNECTIONS_MAX", 0, 65_536),
                open_max: usize::MAX,
                header_bytes_max: read.number("WEIR_HEADER_BYTES_MAX", 8192, 1 << 20),
                inside: None,
                memory: Arc::default(),
                metrics: Arc::default(),
            },
            connections_max: read.number("WEIR_CONNECTIONS_MAX", 1, 1_000_000),
            memory_max: read.memory("WEIR_MEMORY_MAX"),
            body_bytes_total_max: read.number("WEIR_BODY_BYTES_TOTAL_MAX", 0, 1 << 30),
            drain_time: read.duration("WEIR_DRAIN_TIME"),
            proxy_uid: read.uid("WEIR_PROXY_UID"),
            opaque_ports: read.ports("WEIR_OPAQUE_PORTS"),
            log_level: read.log_level("WEIR_LOG_LEVEL"),
        };
        if settings.control_addr.is_some() && settings.control_token_file.is_none() {
            read.refuse(
                "WEIR_CONTROL_TOKEN_FILE",
                "",
                "a file with a bearer token, since WEIR_CONTROL_ADDR is set",
            );
        }
        read.finish(settings)
    }
}

#[cfg(test)]
mod tests {
    use control_api::well_known;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Settings, Vec<InvalidSetting>> {
        Settings::from_env(|name| {
            variables
                .iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_defaults_are_the_well_known_facts() {
        let settings = from(&[]).unwrap();
        assert!(
            settings
                .outbound_addrs
                .iter()
                .all(|addr| addr.port() == well_known::OUTBOUND_PORT)
        );
        assert!(
            settings
                .explicit_proxy_addrs
                .iter()
                .all(|addr| addr.port() == well_known::EXPLICIT_PROXY_PORT)
        );
        assert_eq!(settings.admin_addr.port(), well_known::ADMIN_PORT);
        assert_eq!(
            settings.control_socket,
            PathBuf::from(well_known::CONTROL_SOCKET)
        );
        assert_eq!(
            settings.upstream.connect_timeout,
            connect::Settings::default().connect_timeout
        );
        assert_eq!(
            settings.upstream.idle_timeout,
            connect::Settings::default().idle_timeout
        );
        assert_eq!(
            settings.upstream.idle_max,
            connect::Settings::default().idle_max
        );
        assert_eq!(
            settings.upstream.header_bytes_max,
            connect::Settings::default().header_bytes_max
        );
    }

    #[test]
    fn every_wrong_variable_is_named_with_its_value_and_what_was_expected() {
        let errors = from(&[
            ("WEIR_WORKERS", "0"),
            ("WEIR_DRAIN_TIME", "soon"),
            ("WEIR_OUTBOUND_ADDRS", "0.0.0.0:1"),
            ("WEIR_EXPLICIT_PROXY_ADDRS", ","),
            ("WEIR_MODE", "Observe"),
            ("WEIR_MEMORY_MAX", "256MB"),
            ("WEIR_OPAQUE_PORTS", "5433,postgres"),
            ("WEIR_LOG_LEVEL", "loud"),
        ])
        .unwrap_err();
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        expect_test::expect![[r#"
            WEIR_WORKERS="0": expected a whole number from 1 to 64
            WEIR_OUTBOUND_ADDRS="0.0.0.0:1": expected a loopback address with a port, like 127.0.0.1:19401 or [::1]:19401
            WEIR_EXPLICIT_PROXY_ADDRS=",": expected a loopback address with a port, like 127.0.0.1:19401 or [::1]:19401
            WEIR_MODE="Observe": expected enforce, observe or off
            WEIR_MEMORY_MAX="256MB": expected a number of bytes like 268435456 or 256Mi, at least 16Mi
            WEIR_DRAIN_TIME="soon": expected a length of time like 250ms, 5s or 1m, above 0 and at most 1h
            WEIR_OPAQUE_PORTS="postgres": expected a port from 1 to 65535
            WEIR_LOG_LEVEL="loud": expected error, warn, info, debug, trace or off, or a list such as info,sidecar::stack=debug"#]]
        .assert_eq(&text.join("\n"));
    }

    #[test]
    fn memory_is_written_as_kubernetes_writes_it() {
        let memory_max = |text| from(&[("WEIR_MEMORY_MAX", text)]).map(|read| read.memory_max);
        for text in ["268435456", "262144Ki", "256Mi", "256MiB"] {
            assert_eq!(memory_max(text), Ok(Some(256 << 20)), "{text}");
        }
        assert_eq!(memory_max("2Gi"), Ok(Some(2 << 30)));
        assert_eq!(memory_max(""), Ok(None));
        for text in [
            "0",
            "8Mi",
            "-1",
            "256",
            "256M",
            "1.5Gi",
            "Mi",
            "99999999999Gi",
        ] {
            assert!(memory_max(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_variable_counts_as_absent() {
        let empty: Vec<_> = SETTINGS.iter().map(|setting| (setting.name, " ")).collect();
        let (with, without) = (from(&empty).unwrap(), from(&[]).unwrap());
        assert_eq!(format!("{with:?}"), format!("{without:?}"));
    }

    #[test]
    fn the_drain_ends_within_a_pods_usual_grace_period() {
        let finish_time = crate::drain::Settings::default().finish_time;
        let drain_time = from(&[]).unwrap().drain_time;
        assert_eq!(drain_time, crate::drain::Settings::default().drain_time);
        assert!(drain_time + finish_time < Duration::from_secs(30));
    }

    #[test]
    fn one_of_several_control_addresses_is_not_chosen_silently() {
        let errors = from(&[
            ("WEIR_CONTROL_ADDR", "127.0.0.1:19404,[::1]:19404"),
            ("WEIR_CONTROL_TOKEN_FILE", "/t"),
        ]);
        assert_eq!(errors.unwrap_err().len(), 1);
    }

    #[test]
    fn a_control_address_needs_a_token() {
        assert!(from(&[("WEIR_CONTROL_ADDR", "127.0.0.1:19404")]).is_err());
        assert!(
            from(&[
                ("WEIR_CONTROL_ADDR", "127.0.0.1:19404"),
                ("WEIR_CONTROL_TOKEN_FILE", "/t")
            ])
            .is_ok()
        );
    }
}
