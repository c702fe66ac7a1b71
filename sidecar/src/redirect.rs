//! `weir redirect`: installs, proves and removes the rules of a pod. Its init container runs this and exits.

use std::io;
use std::net::SocketAddr;

use control_api::well_known::{OUTBOUND_PORT, PROXY_UID};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::intercept::cidr::{Cidr, List, PortRange};
use crate::intercept::redirect::verify::{self, Expectation, Finding, Findings, VerifyError};
use crate::intercept::redirect::{self, RedirectError};
use crate::intercept::rules::{PodRules, Ruleset};

/// Longest time for everything, the proof included.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The options of `weir redirect`; each can be set by its environment variable as well.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags, as they are typed")]
pub struct RedirectOptions {
    /// User id whose connections are not redirected: the proxy's.
    #[arg(long, env = "WEIR_PROXY_UID", value_name = "UID", default_value_t = PROXY_UID)]
    pub proxy_uid: u32,
    /// Loopback port that connections are sent to.
    #[arg(long, env = "WEIR_REDIRECT_PORT", value_name = "PORT", default_value_t = OUTBOUND_PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub redirect_port: u16,
    /// Destination ports to leave alone, such as `3306,9000-9100`.
    #[arg(
        long,
        env = "WEIR_SKIP_PORTS",
        value_name = "PORTS",
        default_value = ""
    )]
    pub skip_ports: List<PortRange>,
    /// Destination addresses to leave alone, such as `169.254.169.254,10.0.0.0/8,fd00::/8`.
    #[arg(
        long,
        env = "WEIR_SKIP_CIDRS",
        value_name = "CIDRS",
        default_value = ""
    )]
    pub skip_cidrs: List<Cidr>,
    /// Drop TCP packets that belong to no connection instead of answering them with a reset: for nodes that lose track of some
    #[arg(long, env = "WEIR_DROP_INVALID")]
    pub drop_invalid: bool,
    /// Change nothing; only prove that the rules work.
    #[arg(long, conflicts_with = "remove")]
    pub verify: bool,
    /// Remove the rules.
    #[arg(long)]
    pub remove: bool,
    /// Change nothing; print the rules as nft would.
    #[arg(long, conflicts_with_all = ["verify", "remove"])]
    pub print: bool,
}

/// What was done, for one line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The rules are in place and were seen to work.
    Works(Findings),
    /// The rules are gone.
    Removed,
    /// There were none.
    NothingToRemove,
    /// The rules, as text.
    Printed(String),
}

/// Why the pod's connections are not, or may not be, redirected.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The rules could not be changed.
    #[error(transparent)]
    Rules(#[from] RedirectError),
    /// The rules do not do what they should.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The rules were installed, and something else has the connections.
    #[error(
        "the table `inet weir` is installed, but a connection to {target} did not land on port {redirect_port} ({detail}); \
         does a chain of another table send it elsewhere or drop it? `nft list ruleset` and `iptables-save` show all of them"
    )]
    Overruled {
        /// What was dialled.
        target: SocketAddr,
        /// Where it should have landed.
        redirect_port: u16,
        /// What happened instead.
        detail: String,
    },
    /// `--verify` found neither a redirect nor a table of ours.
    #[error(
        "the table `inet weir` is not installed, and nothing else redirects either ({0}); run `weir redirect` first"
    )]
    NotInstalled(#[source] VerifyError),
    /// The proof would be none: our own connections are the ones that are left alone.
    #[error(
        "this process runs as user {0}, whose connections are not redirected, so it can prove nothing; \
         run it as another user than the proxy"
    )]
    RunsAsProxy(u32),
    /// Something hung.
    #[error(
        "gave up after {PATIENCE:?}; is the kernel's netlink stuck, or a firewall dropping loopback packets?"
    )]
    TimedOut,
    /// No runtime.
    #[error("starting a runtime: {0}")]
    Runtime(#[source] io::Error),
}

/// Does what the options say. Repeating it is safe, and so is interrupting it: the rules change all at once.
///
/// # Errors
/// [`CommandError`]; after a failed proof the rules stay, for a look at them with `nft list table inet weir`.
pub fn run(options: &RedirectOptions) -> Result<Done, CommandError> {
    let rules = PodRules {
        proxy_uid: options.proxy_uid,
        redirect_port: options.redirect_port,
        skip_ports: options.skip_ports.0.clone(),
        skip_cidrs: options.skip_cidrs.0.clone(),
        drop_invalid: options.drop_invalid,
    };
    if options.print {
        return Ok(Done::Printed(Ruleset::pod(&rules).to_string()));
    }
    raise_net_admin();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)?;
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, act(options, rules))
            .await
            .map_err(|_| CommandError::TimedOut)?
    })
}

async fn act(options: &RedirectOptions, rules: PodRules) -> Result<Done, CommandError> {
    if options.remove {
        return Ok(if redirect::remove().await? {
            Done::Removed
        } else {
            Done::NothingToRemove
        });
    }
    let own = nix::unistd::geteuid().as_raw();
    if own == rules.proxy_uid {
        return Err(CommandError::RunsAsProxy(own));
    }
    if !options.verify {
        redirect::install(&Ruleset::pod(&rules)).await?;
    }
    let expectation = Expectation {
        redirect_port: rules.redirect_port,
        skip_ports: rules.skip_ports,
        skip_cidrs: rules.skip_cidrs,
    };
    match verify::verify(&expectation).await {
        Ok(findings) => Ok(Done::Works(findings)),
        Err(error) if options.verify => Err(explained(error).await),
        Err(error) => Err(overruled(error)),
    }
}

/// After an installation the table is there, and this process was seen to be another user's.
fn overruled(error: VerifyError) -> CommandError {
    match error {
        VerifyError::NotRedirected {
            target,
            redirect_port,
            detail,
        } => CommandError::Overruled {
            target,
            redirect_port,
            detail,
        },
        VerifyError::NoRoute | VerifyError::Listen { .. } => CommandError::Verify(error),
    }
}

/// The proof is what counts: rules may be installed otherwise, and whoever only looks may not list them. Where it fails, that
/// there are none is the better reason.
async fn explained(error: VerifyError) -> CommandError {
    match redirect::is_installed().await {
        Ok(false) => CommandError::NotInstalled(error),
        Ok(true) | Err(_) => CommandError::Verify(error),
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = |finding: &Finding| match finding {
            Finding::Redirected(_) => "redirected",
            Finding::Unreachable => "not in use",
            Finding::AllSkipped => "not proven, for every test address is skipped",
        };
        match self {
            Self::Works(Findings { v4, v6 }) => {
                write!(f, "IPv4: {}; IPv6: {}", family(v4), family(v6))
            }
            Self::Removed => f.write_str("removed"),
            Self::NothingToRemove => f.write_str("there was nothing to remove"),
            Self::Printed(rules) => f.write_str(rules),
        }
    }
}

/// Makes a capability effective that is only permitted.
///
/// Containers run this as root, whose capabilities are effective. Whoever wants another user gives the binary file
/// capabilities, and has to choose `cap_net_admin+p`: with the effective bit (`+ep`) the proxy's container, which drops all
/// capabilities, could not execute the file at all. The image's binary has none.
fn raise_net_admin() {
    let Ok(mut sets) = capabilities(None) else {
        return;
    };
    if sets.permitted.contains(CapabilitySet::NET_ADMIN) {
        sets.effective |= CapabilitySet::NET_ADMIN;
        // Without it the kernel refuses the rules, and says so.
        set_capabilities(None, sets).ok();
    }
}
