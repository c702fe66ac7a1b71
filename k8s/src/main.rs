//! `weir-injector`: puts the sidecar into pods.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use k8s::check::CheckOptions;
use k8s::cli::{self, AuditOptions, Cli, Command, InjectOptions};
use k8s::serve::ServeOptions;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Inject(options) => inject(&options),
        Command::Serve(options) => serve(&options),
        Command::Check(options) => check(&options),
        Command::Audit(options) => audit(&options),
    }
}

/// The manifest goes to standard output, what people should know to standard error.
fn inject(options: &InjectOptions) -> ExitCode {
    match cli::inject(options) {
        Ok(manifest) => {
            for note in &manifest.notes {
                say(note);
            }
            match io::stdout().write_all(manifest.text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            }
        }
        Err(error) => fail(&error),
    }
}

/// Logs go to standard error, a JSON object a line.
fn serve(options: &ServeOptions) -> ExitCode {
    tracing_subscriber::fmt()
        .json()
        .with_writer(io::stderr)
        .with_max_level(tracing::Level::INFO)
        .init();
    match cli::serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// What the webhook answered goes to standard output.
fn check(options: &CheckOptions) -> ExitCode {
    let checked = cli::check(options).map(|report| io::stdout().write_all(report.as_bytes()));
    match checked {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&error),
        Err(error) => fail(&error),
    }
}

/// A pod without its sidecar is a failure, so that a pipeline can ask.
fn audit(options: &AuditOptions) -> ExitCode {
    let audit = match cli::audit(options) {
        Ok(audit) => audit,
        Err(error) => return fail(&error),
    };
    match io::stdout().write_all(audit.to_string().as_bytes()) {
        Ok(()) if audit.findings.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn Display) -> ExitCode {
    say(&format_args!("weir-injector: {error}"));
    ExitCode::from(2)
}

fn say(text: &dyn Display) {
    let _nobody_is_left_to_tell = writeln!(io::stderr(), "{text}");
}
