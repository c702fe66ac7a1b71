//! A `weir run` as its cases see it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::user::User;

const PATIENCE: Duration = Duration::from_secs(10);

/// `weir run OPTIONS -- application WORDS`.
pub(crate) fn weir(user: &User, options: &[&str], words: &[&str]) -> Command {
    let mut command = user.command("run");
    command
        .args(options)
        .arg("--")
        .arg(user.program())
        .arg("application")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// What it printed; its exit code must be 0.
pub(crate) fn output_of(mut command: Command) -> Vec<String> {
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{:?}: {text}", output.status);
    text.lines().map(str::to_owned).collect()
}

#[allow(
    clippy::disallowed_methods,
    reason = "real time: other processes are waited for"
)]
fn now() -> Instant {
    Instant::now()
}

pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = now();
    while !condition() {
        assert!(
            started.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A `weir run` whose output is read as it comes. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.process_group(0).spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output }
    }

    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub(crate) fn children(&self) -> Vec<i32> {
        let id = self.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let text = children.expect("it runs");
        text.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("output");
        line.trim().to_owned()
    }

    pub(crate) fn line_with(&mut self, start: &str) -> String {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "it ended without saying `{start}`");
            if line.starts_with(start) {
                return line;
            }
        }
    }

    /// To weir alone, not to its process group.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id()), signal).expect("it runs");
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("weir ends", || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
