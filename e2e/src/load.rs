//! Runs `e2e-load`, directly or inside `weir run`.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

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
    measure(command.args(arguments))
}

/// Makes load inside a command, such as `weir run ... --`.
pub fn within(mut outer: Command, arguments: &[&str]) -> Measured {
    outer.arg(binaries::peer("e2e-load")).args(arguments);
    measure(&mut outer)
}

fn measure(command: &mut Command) -> Measured {
    let done = process::run(command, Duration::from_secs(180));
    assert!(
        done.status.success(),
        "{command:?}: {}\n{}{}",
        done.status,
        done.stdout,
        done.stderr
    );
    let line = done.stdout.lines().rfind(|line| line.starts_with('{'));
    let line =
        line.unwrap_or_else(|| panic!("no result of {command:?}:\n{}{}", done.stdout, done.stderr));
    Measured(serde_json::from_str(line).expect("e2e-load prints JSON"))
}
