//! A wrong setting is named with its value and what was expected, before anything listens.

use std::process::Command;

use e2e::weir::{Weir, free_addr};
use e2e::{binaries, process, wait};

/// Variables, and values that are wrong for them.
const WRONG: &[(&str, &str)] = &[
    ("WEIR_WORKERS", "0"),
    ("WEIR_WORKERS", "none"),
    ("WEIR_OUTBOUND_ADDRS", "many"),
    ("WEIR_OUTBOUND_ADDRS", "0.0.0.0:19401"),
    ("WEIR_OUTBOUND_ADDRS", "127.0.0.1:70000"),
    ("WEIR_EXPLICIT_PROXY_ADDRS", "192.0.2.1:80"),
    ("WEIR_ADMIN_ADDR", "nowhere"),
    ("WEIR_CONTROL_ADDR", "0.0.0.0:19404"),
    ("WEIR_CONNECT_TIMEOUT", "5"),
    ("WEIR_IDLE_TIMEOUT", "0s"),
    ("WEIR_IDLE_CONNECTIONS_MAX", "-1"),
    ("WEIR_HEADER_BYTES_MAX", "1"),
    ("WEIR_CONNECTIONS_MAX", "0"),
    ("WEIR_BODY_BYTES_TOTAL_MAX", "99999999999999"),
    ("WEIR_DRAIN_TIME", "soon"),
    ("WEIR_LOG_LEVEL", "loud"),
    ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
    ("OTEL_TRACES_SAMPLER", "sometimes"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
];

#[test]
fn each_wrong_setting_is_named_with_its_value_and_what_was_expected() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut failures = Vec::new();
    for (name, value) in WRONG {
        let mut command = Command::new(binaries::weir());
        command.arg("proxy").env("WEIR_STATE_DIR", folder.path());
        command.env("WEIR_CONTROL_SOCKET", folder.path().join("control.sock"));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
        command
            .env("OTEL_TRACES_SAMPLER_ARG", "0.5")
            .env("OTEL_TRACES_SAMPLER", "traceidratio");
        let done = process::run(command.env(name, value), wait::LONG);
        let said = done.stderr.contains(name) && done.stderr.contains(value);
        if done.status.code() != Some(2) || !said || !done.stdout.is_empty() {
            failures.push(format!("{name}={value}: {done:?}"));
        }
        assert!(
            !folder.path().join("control.sock").exists(),
            "{name}: something was opened already"
        );
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn all_wrong_settings_are_told_at_once() {
    let mut command = Command::new(binaries::weir());
    command
        .arg("proxy")
        .env("WEIR_WORKERS", "none")
        .env("WEIR_ADMIN_ADDR", "nowhere");
    let done = process::run(&mut command, wait::LONG);
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    assert!(
        done.stderr.contains("WEIR_WORKERS") && done.stderr.contains("WEIR_ADMIN_ADDR"),
        "{done:?}"
    );
}

#[test]
fn a_wrong_option_of_run_is_named() {
    for (option, value) in [("--publish", "nonsense"), ("--admin", "nowhere")] {
        let mut command = Command::new(binaries::weir());
        command.args(["run", option, value, "--", "true"]);
        let done = process::run(&mut command, wait::LONG);
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        assert!(
            done.stderr.contains(option) && done.stderr.contains(value),
            "{done:?}"
        );
    }
}

#[test]
fn a_wrong_policy_file_stops_run_before_the_command() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("policy.yaml");
    std::fs::write(
        &file,
        "version: weir/v1\ndefaults: {deadline: never, retry: {attempts: 0}}\n",
    )
    .expect("ours");
    let mut command = Command::new(binaries::weir());
    command
        .arg("run")
        .arg("--policy")
        .arg(&file)
        .args(["--", "echo", "it ran"]);
    let done = process::run(&mut command, wait::LONG);
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    assert!(!done.stdout.contains("it ran"), "{done:?}");
    assert!(done.stderr.contains("/defaults/deadline"), "{done:?}");
    assert!(done.stderr.contains("/defaults/retry/attempts"), "{done:?}");
}

#[test]
fn an_admin_address_in_use_is_named_and_stops_run_before_the_command() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("it listens").to_string();
    let mut command = Command::new(binaries::weir());
    command.args(["run", "--admin", &addr, "--", "echo", "it ran"]);
    let done = process::run(&mut command, wait::LONG);
    assert_eq!(done.status.code(), Some(125), "{done:?}");
    assert!(!done.stdout.contains("it ran"), "{done:?}");
    assert!(done.stderr.contains(&addr), "{done:?}");
}

#[test]
fn a_second_weir_at_the_same_addresses_does_not_start() {
    let first = Weir::builder().proxy();
    let own = first.folder().join("second.sock");
    for (name, addr) in [
        ("WEIR_ADMIN_ADDR", first.admin()),
        ("WEIR_EXPLICIT_PROXY_ADDRS", first.explicit()),
    ] {
        let mut command = Command::new(binaries::weir());
        command.arg("proxy").env("WEIR_CONTROL_SOCKET", &own);
        command.env("WEIR_ADMIN_ADDR", "127.0.0.1:0");
        command.env("WEIR_OUTBOUND_ADDRS", free_addr().to_string());
        command.env(name, addr.to_string());
        let done = process::run(&mut command, wait::LONG);
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        assert!(done.stderr.contains(name), "{done:?}");
    }
}
