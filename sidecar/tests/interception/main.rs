//! Interception on real namespaces, sockets and signals, without the data plane behind it.
//!
//! This binary plays every part: without arguments it is the test; started by itself it is `weir run` with a stand-in
//! for the data plane ([`plane`]), the keeper (weir's own code), the application ([`application`]), or a pod
//! ([`pod_rules`]) and its node ([`pod`]). So nothing needs to be installed. As root the tests of `weir run` are run twice, the second time as
//! an ordinary user. Where the system forbids namespaces they are reported as skipped.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test, which clippy does not see, for libtest does not run it"
)]

use std::process::ExitCode;

mod application;
mod lifecycle;
mod network;
mod plane;
mod pod;
mod pod_rules;
mod runner;
mod running;
mod user;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let role = arguments.nth(1);
    match role.as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("run") => plane::run(),
        Some("namespace-keeper") => plane::keep(),
        Some("application") => application::main(arguments),
        Some("session") => lifecycle::session(&arguments.next().expect("a terminal's path")),
        Some("node") => pod::node(),
        Some("pod") => pod_rules::main(),
        _ => runner::main(),
    }
}
