//! Runs `weirctl` at a desk.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::api_server::Running;

/// `weirctl` with these words; `{}` in them is the cluster's directory.
pub(crate) fn command(running: &Running, words: &str) -> Command {
    let dir = running.dir.path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
    command.args(
        words
            .split(' ')
            .map(|word| word.replace("{}", dir.to_str().unwrap())),
    );
    command.env("KUBECONFIG", dir.join("kubeconfig"));
    // Nothing here may be taken for a proxy at this desk.
    command.env("WEIR_CONTROL_SOCKET", dir.join("absent.sock"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// What it said, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What became of each pod.
    pub(crate) fn results(&self) -> Vec<String> {
        let report: Value =
            serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let rows = report["pods"].as_array().unwrap().iter();
        let word = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        rows.map(|row| {
            ["pod", "before", "after", "result"]
                .map(|name| word(&row[name]))
                .join(" ")
        })
        .collect()
    }
}

pub(crate) async fn run(running: &Running, words: &str) -> Said {
    let output = timeout(LONG, command(running, words).output()).await;
    Said::of(output.unwrap().unwrap())
}

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(2);
