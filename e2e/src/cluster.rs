//! A Kubernetes cluster as its users have it: through `kubectl`, Helm and the API server, and nothing behind their backs.
//!
//! `KUBECONFIG` says which. weir is installed there already, and the images of the demo shop are on its nodes
//! (`.ci/run cluster` sees to both).

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::{self, Finished};
use crate::wait;

pub mod jaeger;
pub mod namespace;

/// Longest that one command may take.
pub const COMMAND: Duration = Duration::from_mins(3);
/// Longest that something in the cluster may take to come about.
pub const SOON: Duration = Duration::from_secs(90);
/// Where weir is installed.
pub const SYSTEM: &str = "weir-system";
/// The label by which a namespace asks for sidecars.
pub const INJECT: &str = "weir.dev/inject=enabled";

/// Runs `kubectl`; it may fail.
pub fn kubectl(words: &[&str]) -> Finished {
    process::run(Command::new("kubectl").args(words), COMMAND)
}

/// Runs `kubectl`, and answers with what it printed.
///
/// # Panics
/// When it fails.
pub fn kubectl_ok(words: &[&str]) -> String {
    done(&format!("kubectl {}", words.join(" ")), kubectl(words))
}

/// As [`kubectl_ok`], for what answers with JSON.
pub fn kubectl_json(words: &[&str]) -> Value {
    let text = kubectl_ok(words);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("kubectl {words:?}: {error}: {text}"))
}

/// Runs a program with something on its standard input.
pub fn run_with_input(program: &str, words: &[&str], input: &str) -> Finished {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(input.as_bytes()).expect("a temporary file");
    std::io::Seek::rewind(&mut file).expect("a temporary file");
    let mut command = Command::new(program);
    command.args(words);
    process::run_reading(&mut command, Stdio::from(file), COMMAND)
}

/// What a program printed, if it ended well.
///
/// # Panics
/// When it did not.
pub fn done(what: &str, finished: Finished) -> String {
    assert!(
        finished.status.success(),
        "{what}: {}\n{}{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    finished.stdout
}

/// Polls something of the cluster; each look costs a process, so the steps are longer than [`wait::until`]'s.
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    wait::until(what, within, || {
        let answer = probe();
        if answer.is_none() {
            std::thread::sleep(Duration::from_millis(200));
        }
        answer
    })
}

/// The programs that `.ci/run cluster` made, such as `helm4`, by their names on the search path.
pub fn helm(major: u8, words: &[&str]) -> Finished {
    process::run(Command::new(format!("helm{major}")).args(words), COMMAND)
}

/// The `weirctl` under test, as it runs on a person's machine.
pub fn weirctl(words: &[&str]) -> Finished {
    process::run(
        Command::new(crate::binaries::weirctl()).args(words),
        COMMAND,
    )
}
