//! Runs `e2e-load`, directly or as the application of `weir run`.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::weir::Weir;
use crate::{binaries, process};

/// What the load generator measured.
#[derive(Debug, Clone)]
pub struct Measured(pub Value);

impl Measured {
    /// A number of the result.
    pub fn number(&self, name: &str) -> f64 {
        self.0[name]
            .as_f64()
            .unwrap_or_else(|| panic!("no number {name} in {}", self.0))
    }

    /// A count of the result, such as `offered` or `answered`.
    pub fn count(&self, name: &str) -> u64 {
        self.0[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no count {name} in {}", self.0))
    }

    /// Calls that ended in a certain way: a status, `timed-out`, `not-connected` or `broken`.
    pub fn ended(&self, how: &str) -> u64 {
        self.0["outcomes"][how].as_u64().unwrap_or(0)
    }

    /// Calls that weir refused.
    pub fn shed(&self) -> u64 {
        self.0["shed"].as_object().map_or(0, |reasons| {
            reasons.values().filter_map(Value::as_u64).sum()
        })
    }
}

/// Makes load directly.
pub fn direct(arguments: &[&str]) -> Measured {
    let mut command = Command::new(binaries::peer("e2e-load"));
    command.args(arguments);
    let done = process::run(&mut command, Duration::from_mins(3));
    assert!(
        done.status.success(),
        "{command:?}: {}\n{}{}",
        done.status,
        done.stdout,
        done.stderr
    );
    parse(&done.stdout)
}

/// Makes load as the application of a running `weir run`.
pub fn inside(weir: &Weir, arguments: &[&str]) -> Measured {
    let program = binaries::peer("e2e-load");
    let mut words = vec![program.to_str().expect("paths here are text")];
    words.extend_from_slice(arguments);
    let done = weir.inside().exec(&words);
    assert_eq!(
        done.code,
        Some(0),
        "{words:?}: {}{}",
        done.stdout,
        done.stderr
    );
    parse(&done.stdout)
}

fn parse(stdout: &str) -> Measured {
    let line = stdout.lines().rfind(|line| line.starts_with('{'));
    let line = line.unwrap_or_else(|| panic!("no result of e2e-load:\n{stdout}"));
    Measured(serde_json::from_str(line).expect("e2e-load prints JSON"))
}
