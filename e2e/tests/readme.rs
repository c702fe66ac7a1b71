//! The README's commands do what it says: the lines of its `sh` blocks are run here as they stand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::origin::Origin;
use e2e::weir::{Weir, free_addr};
use e2e::{binaries, process};
use serde_json::{Value, json};

fn readme() -> String {
    fs::read_to_string(binaries::repository().join("README.md")).expect("there is a README")
}

/// The contents of its fenced blocks of one kind.
fn blocks(kind: &str) -> Vec<String> {
    let text = readme();
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.trim() == kind, String::new())),
            (Some(_), Some(_)) => found.extend(
                open.take()
                    .and_then(|(wanted, body)| wanted.then_some(body)),
            ),
            (Some((_, body)), None) => writeln!(body, "{line}").expect("a string takes all"),
            (None, None) => {}
        }
    }
    found
}

/// The commands of its `sh` blocks for one program.
fn commands(program: &str) -> Vec<String> {
    let lines = blocks("sh").join("\n");
    let of = |line: &&str| line.split_whitespace().next() == Some(program);
    lines.lines().filter(of).map(str::to_owned).collect()
}

/// A folder in which the README's commands can be run: our programs, its policy, a service of the reader's.
fn desk(origin: &Origin) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    for (program, path) in [("weir", binaries::weir()), ("weirctl", binaries::weirctl())] {
        std::os::unix::fs::symlink(path, at(program)).expect("ours");
    }
    fs::write(
        at("policy.yaml"),
        blocks("yaml").first().expect("it shows a policy"),
    )
    .expect("ours");
    let load = binaries::peer("e2e-load");
    let service = format!(
        "#!/bin/sh\nexec {} {} --rate 50 --seconds 0.2\n",
        load.display(),
        origin.url("/")
    );
    fs::write(at("my-service"), service).expect("ours");
    fs::set_permissions(at("my-service"), fs::Permissions::from_mode(0o755)).expect("ours");
    folder
}

/// Runs a line as it stands, but for the ports, which are free ones here, and the variables given.
fn run(line: &str, desk: &Path, origin: &Origin, variables: &BTreeMap<&str, String>) {
    let line = line.replace("localhost:8080", &origin.addr().to_string());
    let line = line.replace("127.0.0.1:19402", &free_addr().to_string());
    let line = line.replace(
        "--publish 3000",
        &format!("--publish {}", free_addr().port()),
    );
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", &line])
        .current_dir(desk)
        .env("PATH", format!("{}:{path}", desk.display()));
    let done = process::run(shell.envs(variables), Duration::from_mins(1));
    assert!(done.status.success(), "{line}\n{done:?}");
}

#[test]
fn the_two_commands_are_there() {
    let text = readme();
    assert!(text.contains("cargo run --release --bin weir -- demo"));
    assert!(text.contains("cargo test --workspace"));
}

#[test]
fn weir_run_runs_as_shown() {
    let origin = Origin::start(&[]);
    let desk = desk(&origin);
    let lines = commands("weir");
    let lines: Vec<_> = lines.iter().filter(|line| !line.contains("curl")).collect();
    assert!(lines.len() > 3, "{lines:?}");
    for line in lines {
        let before = origin.calls();
        run(line, desk.path(), &origin, &BTreeMap::new());
        assert!(
            origin.calls() > before,
            "{line}: no call reached the server"
        );
    }
}

#[test]
#[ignore = "needs curl: .ci/run e2e"]
fn weir_run_runs_curl_as_shown() {
    let origin = Origin::start(&[]);
    let desk = desk(&origin);
    let lines = commands("weir");
    let line = lines
        .iter()
        .find(|line| line.contains("curl"))
        .expect("it shows curl");
    run(line, desk.path(), &origin, &BTreeMap::new());
    let record = origin.records().pop().expect("a call");
    assert!(!e2e::origin::header(&record, "traceparent").is_empty());
}

#[test]
fn weirctl_runs_as_shown() {
    let origin = Origin::start(&[]);
    let desk = desk(&origin);
    let weir = Weir::run();
    // Something to look at, and revisions to go back to.
    weir.http(origin.addr()).get("a", "/").expect("an answer");
    for seconds in 1..4 {
        let document =
            json!({"version": "weir/v1", "defaults": {"deadline": format!("{seconds}s")}});
        assert_eq!(weir.put_policy(&document).status(), 200);
    }
    let socket = weir.control().display().to_string();
    let lines = commands("weirctl");
    assert!(lines.len() > 3, "{lines:?}");
    for line in &lines {
        run(
            line,
            desk.path(),
            &origin,
            &BTreeMap::from([("WEIR_CONTROL_SOCKET", socket.clone())]),
        );
    }
}

#[test]
fn the_policies_are_policies() {
    let mut policies = blocks("yaml");
    for entry in fs::read_dir(binaries::repository().join("examples/policies"))
        .into_iter()
        .flatten()
        .flatten()
    {
        policies.push(fs::read_to_string(entry.path()).expect("text"));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("policy.yaml");
    for policy in &policies {
        fs::write(&file, policy).expect("ours");
        let mut command = Command::new(binaries::weir());
        command
            .args(["run", "--policy"])
            .arg(&file)
            .args(["--", "true"]);
        let done = process::run(&mut command, Duration::from_secs(20));
        assert!(done.status.success(), "{policy}\n{done:?}");
    }
}

#[test]
#[ignore = "takes half a minute and the release build: .ci/run e2e"]
fn the_demo_shows_the_main_job_within_a_minute() {
    shows_the_main_job(Command::new(binaries::weir()).args(["demo", "--json"]));
}

#[test]
#[ignore = "takes half a minute and the release build: .ci/run e2e"]
fn the_demo_shows_the_main_job_where_namespaces_are_forbidden() {
    // A user namespace in which nobody, not even its root, may make another network namespace.
    let script = format!(
        "echo 0 >/proc/sys/user/max_net_namespaces && exec {} demo --json",
        binaries::weir().display()
    );
    shows_the_main_job(Command::new("unshare").args(["-Ur", "sh", "-c", &script]));
}

fn shows_the_main_job(demo: &mut Command) {
    let begun = tokio::time::Instant::now();
    let done = process::run(demo, Duration::from_mins(2));
    assert!(done.status.success(), "{done:?}");
    assert!(
        begun.elapsed() < Duration::from_mins(1),
        "{:?}",
        begun.elapsed()
    );
    let shown: Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let number = |phase: usize, side: &str, name: &str| {
        let value = &shown["phases"][phase][side][name];
        value
            .as_f64()
            .unwrap_or_else(|| panic!("no {phase}/{side}/{name} in {shown}"))
    };
    assert_eq!(
        (&shown["phases"][0]["name"], &shown["phases"][1]["name"]),
        (&json!("overload"), &json!("faults"))
    );
    for phase in 0..2 {
        for side in ["without", "with"] {
            for name in [
                "offered_per_second",
                "answered_in_time_per_second",
                "refused",
                "server_calls_per_call",
            ] {
                assert!(number(phase, side, name) >= 0.0);
            }
            assert!(number(phase, side, "p50_ms") <= number(phase, side, "p99_ms"));
        }
    }
    let answered = |side| number(0, side, "answered_in_time_per_second");
    assert!(answered("with") > 4.0 * answered("without"), "{shown}");
    assert!(number(0, "with", "refused") > 0.0, "{shown}");
    assert!(number(1, "with", "server_calls_per_call") <= 1.1, "{shown}");
    let in_faults = |side| number(1, side, "answered_in_time_per_second");
    assert!(in_faults("with") > in_faults("without"), "{shown}");
}
