//! The command line of `weir`.

use clap::{Parser, Subcommand};

use crate::demo::DemoOptions;
use crate::demo::client::ClientOptions;
use crate::demo::server::ServerOptions;
use crate::redirect::RedirectOptions;
use crate::run::RunOptions;
use crate::run::keeper::KeeperOptions;

/// A sidecar for outbound calls: it correlates them, holds them back at what the destination can take, and retries what
/// is safe within a budget.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command with its outbound calls passing weir: no root, no cluster, nothing left behind.
    Run(RunOptions),
    /// Show the main job on this machine in half a minute.
    Demo(DemoOptions),
    /// The pod's data plane, configured by WEIR_* and OTEL_* variables.
    #[command(after_help = proxy_settings())]
    Proxy,
    /// Install, verify or remove the pod's redirect rules.
    Redirect(RedirectOptions),
    /// Keeps the namespace of `weir run`, which starts it.
    #[command(hide = true)]
    NamespaceKeeper(KeeperOptions),
    /// The demo's server.
    #[command(hide = true)]
    DemoServer(ServerOptions),
    /// The demo's client.
    #[command(hide = true)]
    DemoClient(ClientOptions),
}

/// The settings of `weir proxy` as help text.
fn proxy_settings() -> String {
    let mut text = String::from("Environment:\n");
    for setting in crate::settings::SETTINGS {
        text.push_str("  ");
        text.push_str(setting.name);
        if !setting.default.is_empty() {
            text.push_str(" [");
            text.push_str(setting.default);
            text.push(']');
        }
        text.push_str("\n      ");
        text.push_str(setting.meaning);
        text.push('\n');
    }
    text
}

/// Says what went wrong on standard error.
pub fn complain(error: &dyn std::fmt::Display) {
    use std::io::Write as _;
    let _nobody_is_left_to_tell = writeln!(std::io::stderr(), "weir: {error}");
}
