//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use control_api::client::IfMatch;

#[cfg(feature = "fleet")]
use crate::fleet::{ClusterArguments, PushArguments};

/// Reads and changes the policy of a running weir, and shows what it does.
#[derive(Debug, Parser)]
#[command(name = "weirctl", version, max_term_width = 110, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The control socket; without it the pod's, or the newest of your own `weir run`s
    #[arg(long, global = true, env = "WEIR_CONTROL_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// How to print; without it, for people
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,

    #[cfg(feature = "fleet")]
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON; one object a line where it goes on for ever
    Json,
    /// YAML
    Yaml,
}

#[cfg(feature = "fleet")]
impl Format {
    /// As it is typed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the proxy as a whole
    Status,
    /// Wait until the proxy takes calls
    Wait {
        /// Give up after this many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        timeout: u64,
    },
    /// Show the policy in force, or that of an earlier revision
    Get {
        /// The revision
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Put a policy into force
    Apply {
        /// File with the policy, YAML or JSON; - is standard input
        file: PathBuf,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        /// The revision that may be replaced, or * for any; without it, the one in force now
        #[arg(long, value_name = "N", value_parser = if_match)]
        if_match: Option<IfMatch>,
        /// Bytes of standard input that are the policy: over a stream whose end may not come
        #[arg(long, value_name = "BYTES", hide = true)]
        length: Option<u64>,
    },
    /// Put a policy into force in every pod of a selector, by the kubeconfig's cluster
    #[cfg(feature = "fleet")]
    Push(PushArguments),
    /// Show what applying a policy would change
    Diff {
        /// File with the policy, YAML or JSON; - is standard input
        file: PathBuf,
        /// As for apply
        #[arg(long, value_name = "BYTES", hide = true)]
        length: Option<u64>,
    },
    /// Check a policy without a running weir
    Check {
        /// File with the policy, YAML or JSON; - is standard input
        file: PathBuf,
    },
    /// List the revisions that are remembered
    History,
    /// Put the policy of an earlier revision into force again
    Rollback {
        /// The revision to go back to
        revision: u64,
        /// The revision that may be replaced; without it, any
        #[arg(long, value_name = "N", value_parser = if_match)]
        if_match: Option<IfMatch>,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Follow the revisions as they come
    Watch {
        /// Start after this revision
        #[arg(long, value_name = "N")]
        since: Option<u64>,
        /// End with standard input, by which whoever runs this from afar is known to be there
        #[arg(long, hide = true)]
        until_eof: bool,
    },
    /// List what weir did to calls that changed their fate, and why
    Decisions(DecisionsArguments),
    /// List destinations: state, limit, in flight, queue, budget, latency
    Destinations,
    /// List open connections from the application
    Connections,
    /// Change how much the proxy logs, until it ends
    LogLevel {
        /// error, warn, info, debug, trace, or a filter such as info,sidecar=debug
        level: String,
    },
    /// Show which route a call takes, and all its settings
    Explain {
        /// HTTP method
        method: http::Method,
        /// The call's URL, such as <http://payments.shop.svc/v1/pay>
        url: http::Uri,
        /// Ask this policy file instead of a running weir
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
    },
}

/// Which decisions are listed.
#[derive(Debug, Args)]
pub(crate) struct DecisionsArguments {
    /// Only those of this trace id or correlation id
    #[arg(long, value_name = "ID")]
    pub(crate) trace: Option<String>,
    /// Only those about this destination
    #[arg(long, value_name = "NAME")]
    pub(crate) destination: Option<String>,
    /// At most this many, the latest
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
    /// Go on as they come
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// As for watch
    #[arg(long, hide = true)]
    pub(crate) until_eof: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 refused or failed, 2 not understood, \
    3 another revision is in force than the one that was to be replaced";

fn if_match(text: &str) -> Result<IfMatch, String> {
    if text == "*" {
        return Ok(IfMatch::Any);
    }
    text.trim_matches('"')
        .parse()
        .map(IfMatch::Revision)
        .map_err(|_| "expected a revision or *".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_revision_may_be_written_as_the_entity_tag_that_it_is() {
        assert_eq!(if_match("7"), Ok(IfMatch::Revision(7)));
        assert_eq!(if_match("\"7\""), Ok(IfMatch::Revision(7)));
        assert_eq!(if_match("*"), Ok(IfMatch::Any));
        assert!(if_match("W/7").is_err());
    }
}
