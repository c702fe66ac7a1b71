//! A child process that cannot outlive its test, and whose output is shown when the test fails.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// Lines of output that are kept; older ones are dropped.
const LINES_MAX: usize = 4_000;

/// Longest wait for the rest of the output of a process that ended: another may hold the pipe.
const REST_MAX: Duration = Duration::from_secs(1);

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with its output captured. Its standard input stays open until the drop: our own peers take its
    /// end as the order to stop, so they go even when the test is killed.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name} ({command:?}): {error}"));
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let out = child.stdout.take().map(|from| capture(from, &lines));
        let err = child.stderr.take().map(|from| capture(from, &lines));
        Self {
            name: name.to_owned(),
            child,
            lines,
            readers: out.into_iter().chain(err).collect(),
        }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it printed, as far as it is still kept.
    pub fn output(&self) -> String {
        let lines = self.lines.lock().expect("no holder panics");
        lines
            .iter()
            .fold(String::new(), |text, line| text + line + "\n")
    }

    /// Waits for a line that starts with `prefix`, and answers with the rest of it.
    pub fn line_after(&self, prefix: &str, within: Duration) -> String {
        wait::until(
            &format!(
                "{}: a line {prefix:?}; it printed:\n{}",
                self.name,
                self.output()
            ),
            within,
            || {
                let lines = self.lines.lock().expect("no holder panics");
                lines
                    .iter()
                    .find_map(|line| line.strip_prefix(prefix).map(|rest| rest.trim().to_owned()))
            },
        )
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.id(), signal);
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_none()
    }

    /// How it ended, once all that it printed is here; what it left behind may go on printing.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("it is our child")?;
        let end = tokio::time::Instant::now() + REST_MAX;
        while !self.readers.iter().all(JoinHandle::is_finished) && tokio::time::Instant::now() < end
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(status)
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let end = tokio::time::Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{} did not end within {within:?}; it printed:\n{}",
                self.name,
                self.output()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it at once and waits for its end.
    pub fn kill(&mut self) {
        if self.is_running() {
            // It may end by itself in between: then there is nothing left to kill.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- output of {} ----\n{}----", self.name, self.output());
        }
    }
}

/// What a program that ran to its end left: status, standard output and standard error.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `command` to its end, at most `within`.
pub fn run(command: &mut Command, within: Duration) -> Finished {
    run_reading(command, Stdio::null(), within)
}

/// As [`run`], with something on its standard input.
pub fn run_reading(command: &mut Command, input: Stdio, within: Duration) -> Finished {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("starting {shown}: {error}"));
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let end = tokio::time::Instant::now() + within;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if tokio::time::Instant::now() > end {
            drop(child.kill());
            drop(child.wait());
            panic!("{shown} did not end within {within:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |reader: Option<JoinHandle<Vec<u8>>>| {
        let bytes = reader
            .and_then(|handle| handle.join().ok())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

/// Sends a signal to a process that a test started.
pub fn send(id: u32, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(id).expect("process ids are small"));
    kill(id, signal).unwrap_or_else(|error| panic!("sending {signal} to {id}: {error}"));
}

/// Whether a program of this name is on the search path.
pub fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe ends the text early; what was read is still worth showing.
        drop(from.read_to_end(&mut bytes));
        bytes
    })
}

fn capture(
    from: impl Read + Send + 'static,
    lines: &Arc<Mutex<VecDeque<String>>>,
) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut kept = lines.lock().expect("no holder panics");
            if kept.len() == LINES_MAX {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    })
}
