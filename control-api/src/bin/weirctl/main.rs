//! `weirctl`: the control API for people, and with `-o json` for scripts.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 not understood, 3 refused because another revision is in force.

mod arguments;
mod commands;
#[cfg(feature = "fleet")]
mod fleet;
mod follow;
mod leash;
mod offline;
mod output;
mod show;
mod table;
mod wait;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::Arguments;
use control_api::client::ClientError;

/// Why a command did not succeed, in words for whoever typed it.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(arguments)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(code) => code,
        // Whoever read our output has read enough: `weirctl decisions | head`.
        Err(failure) if is_closed_pipe(&failure) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = output::printable(&failure.to_string());
            // Without standard error there is nobody to tell.
            writeln!(std::io::stderr(), "weirctl: {text}").ok();
            let error = failure.downcast_ref::<ClientError>();
            if error.is_some_and(ClientError::is_stale) {
                return ExitCode::from(STALE_EXIT_CODE);
            }
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(failure: &Failure) -> bool {
    failure
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Another revision is in force than the one that was to be replaced.
const STALE_EXIT_CODE: u8 = 3;
