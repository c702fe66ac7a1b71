//! What `weir run` is to its user: how the command starts, what it is, how it ends, and what remains.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, setsid};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};

use crate::runner::Case;
use crate::running::{Running, eventually, output_of, weir};
use crate::user::User;

/// Those that need a namespace.
pub(crate) const CASES: &[Case] = &[
    (
        "the_application_keeps_its_user_and_gains_nothing",
        keeps_identity,
    ),
    ("exit_codes_are_the_applications", passes_exit_codes),
    ("signals_are_passed_on_once", passes_signals),
    (
        "the_terminals_signals_reach_the_application_once",
        obeys_the_terminal,
    ),
    ("nothing_remains_when_weir_is_killed", |user| {
        nothing_remains(user, Victim::Weir);
    }),
    ("nothing_remains_when_the_keeper_is_killed", |user| {
        nothing_remains(user, Victim::Keeper);
    }),
    ("nothing_remains_when_the_application_is_killed", |user| {
        nothing_remains(user, Victim::Application);
    }),
    (
        "nothing_remains_whenever_weir_is_killed",
        nothing_remains_whenever,
    ),
];

/// Those that need none.
pub(crate) const WITHOUT_NAMESPACE: &[Case] = &[
    ("proxy_env_tells_of_the_explicit_proxy", tells_of_the_proxy),
    ("proxy_env_leaves_nothing_either", |user| {
        nothing_remains_of(&mut weir(user, &["--proxy-env"], &["family"]), Victim::Weir);
    }),
];

/// Why there are no namespaces for this user, if there are none.
pub(crate) fn refusal(user: &User) -> Option<String> {
    let output = weir(user, &[], &["exit", "0"]).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(125) && text.contains("--proxy-env") {
        return Some(text.trim().to_owned());
    }
    assert!(output.status.success(), "{text}");
    None
}

fn keeps_identity(user: &User) {
    let mut command = weir(user, &[], &["status"]);
    command.stdin(Stdio::piped());
    let mut child = command.process_group(0).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"for the application").expect("a reader");
    drop(input);
    let group = child.id();
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let uid = user.uid();
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "no `{line}` in {text}");
    has(&format!("Uid: {uid} {uid} {uid} {uid}"));
    has("input: for the application");
    has(&format!("group: {group}"));
    has("SigBlk: 0000000000000000");
    if uid != 0 {
        for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            has(&format!("{set}: 0000000000000000"));
        }
    }
    let socket = text
        .lines()
        .find_map(|l| l.strip_prefix("WEIR_CONTROL_SOCKET: "))
        .expect("told of the control socket");
    let directory = Path::new(socket).parent().expect("in a directory");
    assert!(!directory.exists(), "{} remains", directory.display());
}

fn passes_exit_codes(user: &User) {
    for (words, code) in [
        (["exit", "0"], 0),
        (["exit", "42"], 42),
        (["raise", "SIGKILL"], 137),
        (["raise", "SIGTERM"], 143),
    ] {
        let status = weir(user, &[], &words).status().expect("it starts");
        assert_eq!(status.code(), Some(code), "{words:?}");
    }
    for (program, code) in [("/nonexistent/program", 127), ("/etc/passwd", 126)] {
        let mut command = user.command("run");
        command.args(["--", program]).stdout(Stdio::null());
        assert_eq!(
            command.status().expect("it starts").code(),
            Some(code),
            "{program}"
        );
    }
}

fn passes_signals(user: &User) {
    let signals = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
        Signal::SIGTERM,
    ];
    let count = signals.len().to_string();
    let mut running = Running::start(&mut weir(user, &[], &["signals", &count]));
    running.line_with("ready");
    for signal in signals {
        running.signal(signal);
        assert_eq!(running.line(), signal.as_str());
    }
    assert_eq!(running.exit_code(), Some(0));
}

/// Keys that the terminal turns into SIGINT and SIGQUIT.
const CONTROL_C: u8 = 0x03;
const CONTROL_BACKSLASH: u8 = 0x1c;

fn obeys_the_terminal(user: &User) {
    let master =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    unlockpt(&master).expect("our own terminal");
    let path = ptsname(&master, Vec::new()).expect("it has a name");
    let path = path.to_str().expect("plain text");
    // The terminal is ours, and the session may run as another user.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("our own terminal");
    let mut master = fs::File::from(master);
    let mut session = user.command("session");
    session.arg(path).stdin(Stdio::null());
    let mut session = session.spawn().expect("it starts");
    let mut lines = BufReader::new(master.try_clone().expect("a descriptor")).lines();
    // The terminal echoes the keys in front of what the application prints.
    let mut says = move |what: &str| {
        let line = lines.next().expect("output").expect("output");
        assert!(line.trim().ends_with(what), "{line:?}");
    };
    says("ready");
    master.write_all(&[CONTROL_C]).expect("a key");
    says("SIGINT");
    master.write_all(&[CONTROL_BACKSLASH]).expect("a key");
    says("SIGQUIT");
    assert!(session.wait().expect("our child").success());
}

/// A session of its own, with the terminal at `path`, in which weir runs in the foreground.
pub(crate) fn session(path: &OsStr) -> ExitCode {
    setsid().expect("not a group's leader");
    // Opened by a session's leader, a terminal becomes the session's.
    let terminal = fs::File::options().read(true).write(true).open(path);
    let terminal = terminal.expect("a terminal");
    let copy = || Stdio::from(terminal.try_clone().expect("a descriptor"));
    // Or else the keys would end this process. SIGHUP does, when the terminal is closed.
    let keys = SigSet::from_iter([Signal::SIGINT, Signal::SIGQUIT]);
    keys.thread_block().expect("our own mask");
    let program = std::env::current_exe().expect("our own path");
    let status = Command::new(&program)
        .args(["run", "--"])
        .arg(&program)
        .args(["application", "signals", "2"])
        .stdin(copy())
        .stdout(copy())
        .stderr(copy())
        .status();
    let code = status.expect("it starts").code().unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Weir,
    Keeper,
    Application,
}

fn nothing_remains(user: &User, victim: Victim) {
    nothing_remains_of(&mut weir(user, &[], &["family"]), victim);
}

fn nothing_remains_of(command: &mut Command, victim: Victim) {
    let mut running = Running::start(command);
    let mut pids = Vec::new();
    for _ in 0..3 {
        let line = running.line_with("pid ");
        pids.push(line[4..].parse::<i32>().expect("a process id"));
    }
    let scratch = environment_of(pids[0]);
    let keeper = running.children()[0];
    let first = pids.iter().find(|pid| parent_of(**pid) == Some(keeper));
    let first = *first.expect("the keeper started it");
    let (target, code) = match victim {
        Victim::Weir => (running.id(), None),
        Victim::Keeper => (keeper, Some(125)),
        Victim::Application => (first, Some(137)),
    };
    kill(Pid::from_raw(target), Signal::SIGKILL).expect("ours to kill");
    assert_eq!(running.exit_code(), code);
    pids.push(keeper);
    for pid in pids {
        eventually("a process is gone", || !is_alive(pid));
    }
    if let Some(socket) = scratch {
        let directory = Path::new(&socket)
            .parent()
            .expect("in a directory")
            .to_owned();
        eventually("the directory is gone", || !directory.exists());
    }
}

/// Kills weir at moments spread over its start, and looks for processes and files once all is quiet.
fn nothing_remains_whenever(user: &User) {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    for step in 0..40 {
        let socket = directory.path().join(format!("{step}.sock"));
        let options = ["--control-socket", socket.to_str().expect("plain text")];
        let options: &[&str] = if step % 2 == 0 { &options } else { &[] };
        let mut command = weir(user, options, &["stubborn"]);
        command
            .env("TMPDIR", directory.path())
            .env_remove("XDG_RUNTIME_DIR")
            .stdout(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        std::thread::sleep(Duration::from_micros(500 * step));
        child.kill().expect("our child");
        child.wait().expect("our child");
    }
    let program = user.program().to_str().expect("plain text");
    eventually("all processes are gone", || !is_running(program));
    let left: Vec<_> = fs::read_dir(directory.path()).expect("ours").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Whether a process has `word` on its command line.
fn is_running(word: &str) -> bool {
    fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(word))
}

fn environment_of(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok())
        .find_map(|entry| {
            entry
                .strip_prefix("WEIR_CONTROL_SOCKET=")
                .map(str::to_owned)
        })
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Zombies are dead: whoever started this test may not collect orphans.
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

fn tells_of_the_proxy(user: &User) {
    let lines = output_of(weir(user, &["--proxy-env"], &["status"]));
    let value = |name: &str| lines.iter().find_map(|l| l.strip_prefix(name));
    let proxy = value("http_proxy: ").expect("told of the proxy");
    assert!(proxy.starts_with("http://127.0.0.1:"), "{proxy}");
    assert_eq!(value("HTTPS_PROXY: "), Some(proxy));
    assert_eq!(value("NO_PROXY: "), Some(""));
}
