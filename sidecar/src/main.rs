//! `weir`: the sidecar's binary.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use sidecar::cli::{Cli, Command};
use sidecar::redirect::RedirectOptions;

/// Returns memory after a burst, and is faster than glibc's on the allocations that hyper and h2 make.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Proxy => sidecar::app::commands::proxy(),
        Command::Run(options) => sidecar::app::commands::run(&options),
        Command::Redirect(options) => redirect(&options),
        Command::NamespaceKeeper(options) => sidecar::run::keeper::main(&options),
        Command::Demo(options) => on_a_runtime(sidecar::demo::run(options)),
        Command::DemoServer(options) => on_a_runtime(async {
            sidecar::demo::server::serve(options)
                .await
                .map(|()| ExitCode::SUCCESS)
        }),
        Command::DemoClient(options) => on_a_runtime(async {
            sidecar::demo::client::offer(options)
                .await
                .map(|()| ExitCode::SUCCESS)
        }),
    }
}

fn redirect(options: &RedirectOptions) -> ExitCode {
    match sidecar::redirect::run(options) {
        Ok(done) => match writeln!(std::io::stdout(), "weir redirect: {done}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            sidecar::cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn on_a_runtime(work: impl Future<Output = std::io::Result<ExitCode>>) -> ExitCode {
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(work));
    result.unwrap_or_else(|error| {
        sidecar::cli::complain(&error);
        ExitCode::FAILURE
    })
}
