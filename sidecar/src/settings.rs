//! What the pod's proxy is configured with: one environment variable a setting.
//!
//! [`SETTINGS`] is the reference: name, default, meaning. The documentation is held equal to it by a test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use control_api::well_known;

use crate::telemetry::log;
use crate::upstream::connect;

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

/// Every setting of `weir proxy`. The standard `OTEL_*` variables are read as well.
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
        meaning: "Where /metrics, /livez, /readyz and the live page are served; read only.",
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
        meaning: "Largest header section in bytes, in both directions; over it 431.",
    },
    Setting {
        name: "WEIR_CONNECTIONS_MAX",
        default: "10000",
        meaning: "Connections of the application that are open at a time, per worker; at the bound accepting pauses.",
    },
    Setting {
        name: "WEIR_BODY_BYTES_TOTAL_MAX",
        default: "33554432",
        meaning: "Bytes of request bodies that are kept for retries, all calls together; beyond it bodies stream and are not retried.",
    },
    Setting {
        name: "WEIR_DRAIN_TIME",
        default: "30s",
        meaning: "After SIGTERM: longest wait for the application to go and for calls in flight to end. The pod's usual grace period.",
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
    /// `WEIR_STATE_DIR`
    pub state_dir: Option<PathBuf>,
    /// How connections to destinations are made.
    pub upstream: connect::Settings,
    /// `WEIR_CONNECTIONS_MAX`
    pub connections_max: usize,
    /// `WEIR_BODY_BYTES_TOTAL_MAX`
    pub body_bytes_total_max: usize,
    /// `WEIR_DRAIN_TIME`
    pub drain_time: Duration,
    /// `WEIR_LOG_LEVEL`
    pub log_level: String,
}

/// A variable whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value:?}: expected {expected}")]
pub struct InvalidSetting {
    /// The environment variable.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What would have been right.
    pub expected: String,
}

impl Settings {
    /// Reads every setting through `get`, and reports all that are wrong at once.
    ///
    /// # Errors
    /// One entry a variable that cannot be used.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<InvalidSetting>> {
        let mut read = Reader {
            get: &get,
            errors: Vec::new(),
        };
        let settings = Self {
            workers: read.number("WEIR_WORKERS", 1, 64),
            outbound_addrs: read.loopback_addrs("WEIR_OUTBOUND_ADDRS"),
            explicit_proxy_addrs: read.loopback_addrs("WEIR_EXPLICIT_PROXY_ADDRS"),
            admin_addr: read
                .parsed(
                    "WEIR_ADMIN_ADDR",
                    "an address with a port, like 0.0.0.0:19402",
                )
                .unwrap_or(UNSPECIFIED),
            control_socket: read.path("WEIR_CONTROL_SOCKET").unwrap_or_default(),
            control_addr: read.loopback_addrs("WEIR_CONTROL_ADDR").into_iter().next(),
            control_token_file: read.path("WEIR_CONTROL_TOKEN_FILE"),
            policy_file: read.path("WEIR_POLICY_FILE"),
            state_dir: read.path("WEIR_STATE_DIR"),
            upstream: connect::Settings {
                connect_timeout: read.duration("WEIR_CONNECT_TIMEOUT"),
                idle_timeout: read.duration("WEIR_IDLE_TIMEOUT"),
                idle_max: read.number("WEIR_IDLE_CONNECTIONS_MAX", 0, 65_536),
                header_bytes_max: read.number("WEIR_HEADER_BYTES_MAX", 8192, 1 << 20),
                inside: None,
            },
            connections_max: read.number("WEIR_CONNECTIONS_MAX", 1, 1_000_000),
            body_bytes_total_max: read.number("WEIR_BODY_BYTES_TOTAL_MAX", 0, 1 << 30),
            drain_time: read.duration("WEIR_DRAIN_TIME"),
            log_level: read.log_level("WEIR_LOG_LEVEL"),
        };
        if settings.control_addr.is_some() && settings.control_token_file.is_none() {
            read.refuse(
                "WEIR_CONTROL_TOKEN_FILE",
                "",
                "a file with a bearer token, since WEIR_CONTROL_ADDR is set",
            );
        }
        if read.errors.is_empty() {
            Ok(settings)
        } else {
            Err(read.errors)
        }
    }
}

/// Reads variables and collects what is wrong with them.
struct Reader<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<InvalidSetting>,
}

impl Reader<'_> {
    /// The variable's value, or its default; `None` where both are empty.
    fn text(&self, name: &str) -> Option<String> {
        let default = SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .map_or("", |setting| setting.default);
        let value = (self.get)(name).unwrap_or_else(|| default.to_owned());
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn refuse(&mut self, name: &'static str, value: &str, expected: &str) {
        self.errors.push(InvalidSetting {
            name,
            value: value.to_owned(),
            expected: expected.to_owned(),
        });
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let value = self.text(name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.refuse(name, &value, expected);
        }
        parsed
    }

    fn number(&mut self, name: &'static str, min: usize, max: usize) -> usize {
        let expected = format!("a whole number from {min} to {max}");
        match self.parsed::<usize>(name, &expected) {
            Some(number) if (min..=max).contains(&number) => number,
            Some(number) => {
                self.refuse(name, &number.to_string(), &expected);
                min
            }
            None => min,
        }
    }

    fn duration(&mut self, name: &'static str) -> Duration {
        let expected = "a length of time like 250ms, 5s or 1m, above 0 and at most 1h";
        let Some(value) = self.text(name) else {
            return Duration::ZERO;
        };
        match parse_duration(&value) {
            Some(duration) if !duration.is_zero() && duration <= Duration::from_secs(3600) => {
                duration
            }
            Some(_) | None => {
                self.refuse(name, &value, expected);
                Duration::ZERO
            }
        }
    }

    fn log_level(&mut self, name: &'static str) -> String {
        let level = self.text(name).unwrap_or_default();
        if let Err(error) = log::check_level(&level) {
            self.refuse(name, &level, &error.to_string());
        }
        level
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn loopback_addrs(&mut self, name: &'static str) -> Vec<SocketAddr> {
        let Some(value) = self.text(name).filter(|value| value != "none") else {
            return Vec::new();
        };
        let mut addrs = Vec::new();
        for part in value.split(',').map(str::trim) {
            match part.parse::<SocketAddr>() {
                Ok(addr) if addr.ip().is_loopback() => addrs.push(addr),
                Ok(_) | Err(_) => {
                    self.refuse(
                        name,
                        part,
                        "a loopback address with a port, like 127.0.0.1:19401 or [::1]:19401",
                    );
                }
            }
        }
        addrs
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (amount, unit) = text.split_at_checked(digits)?;
    let amount: u64 = amount.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(amount)),
        "s" => Some(Duration::from_secs(amount)),
        "m" => amount.checked_mul(60).map(Duration::from_secs),
        "h" => amount.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

const UNSPECIFIED: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    well_known::ADMIN_PORT,
);

#[cfg(test)]
mod tests {
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
        ])
        .unwrap_err();
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        expect_test::expect![[r#"
            WEIR_WORKERS="0": expected a whole number from 1 to 64
            WEIR_OUTBOUND_ADDRS="0.0.0.0:1": expected a loopback address with a port, like 127.0.0.1:19401 or [::1]:19401
            WEIR_DRAIN_TIME="soon": expected a length of time like 250ms, 5s or 1m, above 0 and at most 1h"#]]
        .assert_eq(&text.join("\n"));
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
