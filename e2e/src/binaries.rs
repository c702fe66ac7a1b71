//! Where the binaries are, and how they get there.
//!
//! `cargo test --workspace` builds the binaries of every package that has integration tests before it runs any test.
//! A test that is run alone finds them missing or older than their sources, and builds them once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::SystemTime;

/// Directory of ready binaries to use instead of the ones beside the tests.
pub const BIN_DIR_VARIABLE: &str = "WEIR_E2E_BIN_DIR";

/// Path of the `weir` binary.
pub fn weir() -> PathBuf {
    product("weir")
}

/// Path of the `weirctl` binary.
pub fn weirctl() -> PathBuf {
    product("weirctl")
}

/// Path of one of our peers, such as `e2e-origin`. They are built with the tests themselves.
pub fn peer(name: &str) -> PathBuf {
    let path = directory().join(name);
    if path.exists() {
        path
    } else {
        beside_this_program().join(name)
    }
}

/// The repository's top.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the repository")
        .to_path_buf()
}

/// Path of the `weir-injector` binary.
pub fn weir_injector() -> PathBuf {
    static BUILD: Once = Once::new();
    let path = directory().join("weir-injector");
    if std::env::var_os(BIN_DIR_VARIABLE).is_none() {
        BUILD.call_once(|| {
            if is_stale(&path, &["k8s", "control-api"]) {
                build("webhook");
            }
        });
    }
    present(path)
}

fn product(name: &str) -> PathBuf {
    static BUILD: Once = Once::new();
    let is_old = |name: &str| is_stale(&directory().join(name), &["sidecar", "control-api"]);
    if std::env::var_os(BIN_DIR_VARIABLE).is_none() {
        BUILD.call_once(|| {
            if is_old("weir") || is_old("weirctl") {
                build("commands");
            }
        });
    }
    present(directory().join(name))
}

fn present(path: PathBuf) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing; build it with `cargo build --workspace`",
        path.display()
    );
    path
}

fn directory() -> PathBuf {
    std::env::var_os(BIN_DIR_VARIABLE).map_or_else(beside_this_program, PathBuf::from)
}

/// `target/PROFILE`, whether this is a test (`target/PROFILE/deps/NAME`) or a binary (`target/PROFILE/NAME`).
fn beside_this_program() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let folder = program.parent().expect("a program is in a folder");
    if folder.ends_with("deps") {
        folder
            .parent()
            .expect("deps is in the profile's folder")
            .to_path_buf()
    } else {
        folder.to_path_buf()
    }
}

/// Whether a binary is older than its crates.
fn is_stale(binary: &Path, crates: &[&str]) -> bool {
    let Ok(built) = binary.metadata().and_then(|data| data.modified()) else {
        return true;
    };
    let top = repository();
    crates
        .iter()
        .chain(&["Cargo.lock", "Cargo.toml"])
        .any(|part| newest(&top.join(part)) > built)
}

fn newest(path: &Path) -> SystemTime {
    let own = path
        .metadata()
        .and_then(|data| data.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let Ok(entries) = path.read_dir() else {
        return own;
    };
    entries
        .flatten()
        .map(|entry| newest(&entry.path()))
        .max()
        .unwrap_or(own)
}

/// Builds as `cargo test --workspace` would, so that features and thus dependencies stay the same ones: the binaries of the
/// packages that have the test.
fn build(test: &str) {
    let folder = beside_this_program();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(repository()).args([
        "test",
        "--workspace",
        "--no-run",
        "--quiet",
        "--test",
        test,
    ]);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    // The target directory may not be the default one.
    cargo.env(
        "CARGO_TARGET_DIR",
        folder
            .parent()
            .expect("a profile is in the target directory"),
    );
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "building weir for the tests failed");
}
