//! The command line of `weir-injector`.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::audit::{self, Audit, AuditError};
use crate::check::{self, CheckError, CheckOptions};
use crate::inject::PodSecurity;
use crate::manifest::{self, ManifestError};
use crate::serve::{ServeOptions, StartError};
use crate::settings::{Settings, SettingsError};

/// Puts weir's sidecar into pods.
#[derive(Debug, Parser)]
#[command(
    name = "weir-injector",
    version,
    arg_required_else_help = true,
    max_term_width = 110
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Inject manifests without a webhook: `weir-injector inject -f app.yaml | kubectl apply -f -`
    Inject(InjectOptions),
    /// Serve the admission webhook
    Serve(ServeOptions),
    /// Ask a running webhook about a pod, as an API server would
    Check(CheckOptions),
    /// List the pods that ask for the sidecar and have none, or an old one:
    /// `kubectl get namespaces,pods --all-namespaces -o json | weir-injector audit -f - --config settings.yaml`
    Audit(AuditOptions),
}

/// The options of `weir-injector inject`.
#[derive(Debug, Clone, clap::Args)]
pub struct InjectOptions {
    /// Manifest of one or many documents, YAML or JSON; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// The injector's settings, as the chart writes them; without it, the defaults
    #[arg(long, env = "WEIR_INJECTOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The Pod Security level that the namespace enforces; above privileged, calls are taken by `HTTP_PROXY`
    #[arg(long, value_name = "LEVEL", default_value = "privileged")]
    pub pod_security: PodSecurityLevel,
}

/// The options of `weir-injector audit`.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditOptions {
    /// Namespaces and pods as kubectl prints them, YAML or JSON; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// The injector's settings, as the chart writes them: by others every sidecar would be an old one
    #[arg(long, env = "WEIR_INJECTOR_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

/// Pod Security's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PodSecurityLevel {
    /// All is allowed.
    Privileged,
    /// No added capabilities.
    Baseline,
    /// Hardly any rights.
    Restricted,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The settings cannot be used.
    #[error("{}: {source}", path.display())]
    Settings {
        /// Their file.
        path: PathBuf,
        /// Why.
        source: SettingsError,
    },
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The cluster's pods cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The webhook did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The webhook does not do what it should.
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl From<PodSecurityLevel> for PodSecurity {
    fn from(level: PodSecurityLevel) -> Self {
        match level {
            PodSecurityLevel::Privileged => Self::AllowsNetAdmin,
            PodSecurityLevel::Baseline | PodSecurityLevel::Restricted => Self::ForbidsNetAdmin,
        }
    }
}

/// Injects a manifest.
///
/// # Errors
/// [`Failure`]
pub fn inject(options: &InjectOptions) -> Result<manifest::Manifest, Failure> {
    let settings = settings(options.config.as_deref())?;
    let text = read(&options.file)?;
    let pod_security = options.pod_security.into();
    Ok(manifest::inject_manifest(&text, pod_security, &settings)?)
}

/// Serves the webhook until it is told to end.
///
/// # Errors
/// [`Failure`]
pub fn serve(options: &ServeOptions) -> Result<(), Failure> {
    let settings = settings(options.config.as_deref())?;
    Ok(crate::serve::run(options, settings)?)
}

/// Asks a running webhook, and says what it answered.
///
/// # Errors
/// [`Failure::Check`]
pub fn check(options: &CheckOptions) -> Result<String, Failure> {
    Ok(check::run(options)?)
}

/// Audits the pods of a cluster.
///
/// # Errors
/// [`Failure`]
pub fn audit(options: &AuditOptions) -> Result<Audit, Failure> {
    let settings = settings(Some(&options.config))?;
    let text = read(&options.file)?;
    Ok(audit::audit(&text, &settings)?)
}

/// The settings of a file; the defaults where there is none.
///
/// # Errors
/// [`Failure::File`] or [`Failure::Settings`]
pub fn settings(path: Option<&Path>) -> Result<Settings, Failure> {
    let text = path.map(read).transpose()?.unwrap_or_default();
    Settings::parse(&text).map_err(|source| Failure::Settings {
        path: path.unwrap_or(Path::new("")).to_owned(),
        source,
    })
}

/// The text of a file, or of standard input.
fn read(path: &Path) -> Result<String, Failure> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_certificate_is_from_exactly_one_place() {
        let takes = |arguments: &str| {
            let words = format!("weir-injector serve {arguments}");
            Cli::try_parse_from(words.split_whitespace()).map_err(|error| error.to_string())
        };
        let own = "--self-certs s --webhook-configuration w --service v --namespace n";
        assert!(takes("--certs d").is_ok());
        assert!(takes(own).is_ok());
        assert!(takes("").unwrap_err().contains("--self-certs"));
        assert!(takes(&format!("--certs d {own}")).is_err());
        let less = takes("--self-certs s --webhook-configuration w --service v");
        assert!(less.unwrap_err().contains("--namespace"));
        assert!(takes("--certs d --service v").is_err());
    }
}
