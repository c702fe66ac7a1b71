//! Reads variables, and collects what is wrong with them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use control_api::document::parse_length;
use control_api::policy::Mode;
use control_api::well_known::{ADMIN_PORT, PROXY_MEMORY_MIN};

use super::SETTINGS;
use crate::telemetry::log;

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

/// Reads variables, and collects what is wrong with them. After a mistake it answers with a value that is not used.
pub(super) struct Reader<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<InvalidSetting>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            get,
            errors: Vec::new(),
        }
    }

    /// `settings`, if nothing was wrong.
    pub(super) fn finish<T>(self, settings: T) -> Result<T, Vec<InvalidSetting>> {
        if self.errors.is_empty() {
            Ok(settings)
        } else {
            Err(self.errors)
        }
    }

    pub(super) fn refuse(&mut self, name: &'static str, value: &str, expected: &str) {
        self.errors.push(InvalidSetting {
            name,
            value: value.to_owned(),
            expected: expected.to_owned(),
        });
    }

    /// The variable's value; where it is absent or empty its default; `None` where that is empty too.
    fn text(&self, name: &str) -> Option<String> {
        let given = (self.get)(name).map(|value| value.trim().to_owned());
        given.filter(|value| !value.is_empty()).or_else(|| {
            let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
            Some(setting.default.to_owned()).filter(|default| !default.is_empty())
        })
    }

    fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let value = self.text(name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.refuse(name, &value, expected);
        }
        parsed
    }

    pub(super) fn number(&mut self, name: &'static str, min: usize, max: usize) -> usize {
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

    /// Bytes, by Kubernetes' binary units or none.
    pub(super) fn memory(&mut self, name: &'static str) -> Option<u64> {
        let value = self.text(name)?;
        let bytes = parse_memory(&value).filter(|bytes| *bytes >= PROXY_MEMORY_MIN);
        if bytes.is_none() {
            let expected = "a number of bytes like 268435456 or 256Mi, at least 16Mi";
            self.refuse(name, &value, expected);
        }
        bytes
    }

    pub(super) fn uid(&mut self, name: &'static str) -> Option<u32> {
        self.parsed(name, "a user id like 19400")
    }

    pub(super) fn duration(&mut self, name: &'static str) -> Duration {
        let expected = "a length of time like 250ms, 5s or 1m, above 0 and at most 1h";
        let value = self.text(name).unwrap_or_default();
        match parse_length(&value) {
            Some(length) if !length.is_zero() && length <= Duration::from_hours(1) => length,
            Some(_) | None => {
                self.refuse(name, &value, expected);
                Duration::ZERO
            }
        }
    }

    pub(super) fn log_level(&mut self, name: &'static str) -> String {
        let level = self.text(name).unwrap_or_default();
        if log::check_level(&level).is_err() {
            self.refuse(name, &level, log::LEVELS);
        }
        level
    }

    pub(super) fn mode(&mut self, name: &'static str) -> Mode {
        let word = self.text(name).unwrap_or_default();
        let known = Mode::ALL.into_iter().find(|mode| mode.word() == word);
        known.unwrap_or_else(|| {
            self.refuse(name, &word, "enforce, observe or off");
            Mode::default()
        })
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    pub(super) fn addr(&mut self, name: &'static str) -> SocketAddr {
        let expected = format!("an address with a port, like 0.0.0.0:{ADMIN_PORT}");
        self.parsed(name, &expected)
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    pub(super) fn loopback_addr(&mut self, name: &'static str) -> Option<SocketAddr> {
        let value = self.text(name)?;
        self.loopback(name, &value)
    }

    /// Several, separated by commas; `none` for none.
    pub(super) fn loopback_addrs(&mut self, name: &'static str) -> Vec<SocketAddr> {
        let value = self.text(name).filter(|value| value != "none");
        let Some(value) = value else {
            return Vec::new();
        };
        let parts = value.split(',').map(str::trim);
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            // Commas alone are a mistake: whoever wants it nowhere says so.
            self.refuse(name, &value, LOOPBACK);
        }
        let addrs = parts.iter().filter_map(|part| self.loopback(name, part));
        addrs.collect()
    }

    /// Several, separated by commas.
    pub(super) fn ports(&mut self, name: &'static str) -> Vec<u16> {
        let value = self.text(name).unwrap_or_default();
        let mut ports = Vec::new();
        for entry in value.split(',').map(str::trim) {
            match entry.parse() {
                Ok(0) | Err(_) if !entry.is_empty() => {
                    self.refuse(name, entry, "a port from 1 to 65535");
                }
                Ok(port) => ports.push(port),
                Err(_) => {}
            }
        }
        ports
    }

    fn loopback(&mut self, name: &'static str, text: &str) -> Option<SocketAddr> {
        let addr = text.parse().ok();
        let loopback = addr.filter(|addr: &SocketAddr| addr.ip().is_loopback());
        if loopback.is_none() {
            self.refuse(name, text, LOOPBACK);
        }
        loopback
    }
}

fn parse_memory(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits)? {
        "" => 1,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

const LOOPBACK: &str = "a loopback address with a port, like 127.0.0.1:19401 or [::1]:19401";
