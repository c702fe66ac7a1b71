//! The `weirctl` binary answers for itself. That this is an integration test also makes `cargo test` build the binary,
//! which the black-box tests then find.

use std::process::Command;

#[test]
fn help_is_given_when_asked_for() {
    let status = Command::new(env!("CARGO_BIN_EXE_weirctl"))
        .arg("--help")
        .output()
        .map(|output| output.status);
    assert!(
        status.is_ok_and(|status| status.success()),
        "weirctl --help fails"
    );
}
