//! `weir demo`: the main job on this machine, in half a minute: real processes, real sockets, real interception.
//!
//! The same load runs first without and then with weir, against the same kind of server. Every number is measured in
//! that run; what is printed comes from the client process (what its user saw) and the server process (what reached it).

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use client::Tally;
use report::{Measured, Phase};

pub mod client;
pub mod report;
pub mod server;

/// Options of `weir demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoOptions {
    /// Print one JSON object on standard output, and nothing else there.
    #[arg(long)]
    pub json: bool,
}

/// What makes the two phases differ.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    name: &'static str,
    rate: u32,
    seconds: u32,
    fail_one_of: u64,
}

/// The server does 800 calls a second at most: 8 slots of 10 ms. 3 times that, then a quarter of it.
const SCENARIOS: [Scenario; 2] = [
    Scenario {
        name: "overload",
        rate: 2400,
        seconds: 6,
        fail_one_of: 0,
    },
    Scenario {
        name: "faults",
        rate: 200,
        seconds: 6,
        fail_one_of: 2,
    },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arm {
    Without,
    With,
}

/// Runs the demo and prints its table.
///
/// # Errors
/// When a process cannot be started or ends early.
pub async fn run(options: DemoOptions) -> io::Result<ExitCode> {
    let program = std::env::current_exe()?;
    let policy = PolicyFile::write()?;
    let interception = Interception::choose(&program).await;
    if !options.json {
        say_to_stderr(&format!(
            "{}\n",
            report::introduction(interception.explanation())
        ))?;
    }
    let mut phases = Vec::new();
    for scenario in SCENARIOS {
        let without = measure(&program, &interception, &policy, scenario, Arm::Without).await?;
        let with = measure(&program, &interception, &policy, scenario, Arm::With).await?;
        phases.push(Phase {
            name: scenario.name,
            without,
            with,
        });
    }
    if options.json {
        say(&serde_json::to_string(
            &serde_json::json!({ "phases": phases }),
        )?)?;
    } else {
        say(&report::table(&phases))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One scenario, with or without weir, against a server of its own.
async fn measure(
    program: &Path,
    interception: &Interception,
    policy: &PolicyFile,
    scenario: Scenario,
    arm: Arm,
) -> io::Result<Measured> {
    let fail_one_of = scenario.fail_one_of.to_string();
    let mut server = piped(program, &["demo-server", "--fail-one-of", &fail_one_of]).spawn()?;
    let target = address(&mut server).await?;
    let (rate, seconds, target_text) = (
        scenario.rate.to_string(),
        scenario.seconds.to_string(),
        target.to_string(),
    );
    let client = [
        "demo-client",
        "--target",
        &target_text,
        "--rate",
        &rate,
        "--seconds",
        &seconds,
    ];
    let mut command = match arm {
        Arm::Without => piped(program, &client),
        Arm::With => interception.command(program, policy, &client),
    };
    let tally = watch(&mut command.spawn()?, scenario, arm).await?;
    let received = received(target).await?;
    server.kill().await?;
    Ok(Measured::new(&tally, received))
}

/// Follows the client's lines, shows them as they come, and keeps the last.
async fn watch(client: &mut Child, scenario: Scenario, arm: Arm) -> io::Result<Tally> {
    let stdout = client
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("the client has no standard output"))?;
    let mut lines = BufReader::new(stdout).lines();
    let mut last = None;
    let bound = Duration::from_secs(u64::from(scenario.seconds) + 15);
    let follow = async {
        while let Some(line) = lines.next_line().await? {
            let tally: Tally = serde_json::from_str(&line)?;
            progress(scenario, arm, &tally)?;
            last = Some(tally);
        }
        client.wait().await
    };
    let status = tokio::time::timeout(bound, follow)
        .await
        .map_err(|_| io::Error::other("the client did not end"))??;
    if io::stderr().is_terminal() {
        say_to_stderr("\n")?;
    }
    match last {
        Some(tally) if status.success() => Ok(tally),
        Some(_) | None => Err(io::Error::other(format!("the client ended with {status}"))),
    }
}

fn progress(scenario: Scenario, arm: Arm, tally: &Tally) -> io::Result<()> {
    let line = report::progress(scenario.name, arm == Arm::With, tally);
    if io::stderr().is_terminal() {
        say_to_stderr(&format!("\r\x1b[2K{line}"))
    } else {
        say_to_stderr(&format!("{line}\n"))
    }
}

/// How the client's calls come to weir.
#[derive(Debug, Clone, Copy)]
enum Interception {
    Namespace,
    ProxyEnvironment,
}

impl Interception {
    /// A namespace of its own where the system allows it.
    async fn choose(program: &Path) -> Self {
        let probe = Command::new(program)
            .args(["run", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        match tokio::time::timeout(Duration::from_secs(10), probe).await {
            Ok(Ok(status)) if status.success() => Self::Namespace,
            Ok(_) | Err(_) => Self::ProxyEnvironment,
        }
    }

    fn explanation(self) -> &'static str {
        match self {
            Self::Namespace => {
                "intercepted in a network namespace of its own; the client knows nothing of weir"
            }
            Self::ProxyEnvironment => {
                "sent through HTTP_PROXY, since this system forbids user namespaces (as root they are intercepted)"
            }
        }
    }

    fn command(self, program: &Path, policy: &PolicyFile, client: &[&str]) -> Command {
        let policy = policy.path.to_string_lossy();
        let program_text = program.to_string_lossy();
        let mut args = vec!["run", "--policy", &policy];
        if matches!(self, Self::ProxyEnvironment) {
            args.push("--proxy-env");
        }
        args.extend(["--", &program_text]);
        args.extend(client);
        if matches!(self, Self::ProxyEnvironment) {
            args.push("--proxy-env");
        }
        piped(program, &args)
    }
}

/// The policy of the demo, as a file: what a user would write.
#[derive(Debug)]
struct PolicyFile {
    path: PathBuf,
}

impl PolicyFile {
    fn write() -> io::Result<Self> {
        let name = format!(
            "weir-demo-{}-{:08x}.yaml",
            std::process::id(),
            fastrand::u32(..)
        );
        let path = std::env::temp_dir().join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| {
                let what = format!(
                    "the demo's policy file {}: {error}; TMPDIR can name another folder",
                    path.display()
                );
                io::Error::new(error.kind(), what)
            })?;
        file.write_all(POLICY.as_bytes())?;
        Ok(Self { path })
    }
}

impl Drop for PolicyFile {
    fn drop(&mut self) {
        let _it_may_be_gone_already = std::fs::remove_file(&self.path);
    }
}

const POLICY: &str = "\
version: weir/v1
defaults:
  deadline: 250ms
  admission:
    limit: 8
";

fn piped(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn address(server: &mut Child) -> io::Result<SocketAddr> {
    let stdout = server
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("the server has no standard output"))?;
    let mut line = String::new();
    tokio::time::timeout(
        Duration::from_secs(5),
        BufReader::new(stdout).read_line(&mut line),
    )
    .await
    .map_err(|_| io::Error::other("the server did not start"))??;
    line.trim()
        .parse()
        .map_err(|_| io::Error::other("the server did not say its address"))
}

/// How many calls reached the server, as it says itself.
async fn received(server: SocketAddr) -> io::Result<u64> {
    let ask = async {
        let mut socket = TcpStream::connect(server).await?;
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n",
            server::RECEIVED_PATH
        );
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.take(4096).read_to_string(&mut answer).await?;
        answer
            .rsplit("\r\n")
            .next()
            .and_then(|body| body.parse().ok())
            .ok_or_else(|| io::Error::other(answer))
    };
    tokio::time::timeout(Duration::from_secs(5), ask)
        .await
        .map_err(|_| io::Error::other("the server hangs"))?
}

/// Writes a line to standard output at once.
fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

fn say_to_stderr(text: &str) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(text.as_bytes())?;
    stderr.flush()
}
