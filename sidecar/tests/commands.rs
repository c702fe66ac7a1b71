//! The `weir` binary answers for itself. That this is an integration test also makes `cargo test` build the binary,
//! which the black-box tests then find.

use std::process::Command;

#[test]
fn help_is_given_when_asked_for() {
    let status = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("--help")
        .output()
        .map(|output| output.status);
    assert!(
        status.is_ok_and(|status| status.success()),
        "weir --help fails"
    );
}

#[test]
fn a_setting_that_is_no_text_is_refused_and_not_overlooked() {
    use std::os::unix::ffi::OsStrExt as _;
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("proxy")
        .env("WEIR_WORKERS", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("WEIR_WORKERS"), "{said}");
}

#[test]
fn a_policy_that_cannot_be_read_twice_is_refused_before_anything_runs() {
    for path in ["/dev/zero", "/dev/stdin", "/"] {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--policy", path, "--", "true"])
            .stdin(std::process::Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{path}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(path) && said.contains("not a file"), "{said}");
    }
}
