//! `weir run`: a command in a network of its own, whose calls all pass through weir.
//!
//! ```text
//! weir (host's network)            keeper (application's namespace)            CMD
//!   start ───── starts itself ───────> makes the namespace, binds sockets
//!         <──── Ready + sockets ──────
//!   ... the data plane is put onto the sockets ...
//!   go    ───── Go + stdin ──────────> ──────────── starts ──────────────────> runs
//!   wait  <──── Ended ──────────────── sweeps up what CMD left  <── ends ─────
//! ```
//!
//! [`start`] makes the namespace, [`Session::go`] starts the command, [`Session::wait`] passes signals on until it ends.
//! In between `app` puts the data plane onto [`Session::take_sockets`]. Whoever dies first, nothing remains: see
//! [`keeper`] and [`sweep`].

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use control_api::well_known::EXPLICIT_PROXY_PORT;

use crate::intercept::client_end::Ends;
use crate::intercept::inside::Inside;
use crate::intercept::publish::{Publish, Published};

pub mod environment;
pub mod keeper;
pub mod scratch;
pub mod services;
pub mod session;
pub mod signals;
pub mod sweep;

use scratch::Leftovers;
pub use services::Services;
pub use session::Session;

/// The options of `weir run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunOptions {
    /// Policy to obey, as YAML or JSON; watched for changes.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Make a port that CMD listens on reachable from the host: PORT, HOSTPORT:PORT or ADDRESS:HOSTPORT:PORT.
    #[arg(long, value_name = "[HOST:]PORT")]
    pub publish: Vec<Publish>,
    /// Where to put the control API's socket. Default: in a directory of its own, told to CMD as `WEIR_CONTROL_SOCKET`.
    #[arg(long, value_name = "PATH")]
    pub control_socket: Option<PathBuf>,
    /// Serve metrics and the live page here, such as 127.0.0.1:19402.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Send spans to this OTLP endpoint, such as <http://127.0.0.1:4317>.
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Make no namespace; tell CMD of weir by `HTTP_PROXY` and the like instead. For systems that forbid namespaces.
    #[arg(long)]
    pub proxy_env: bool,
    /// The command to run, and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What the data plane serves for one command.
#[derive(Debug)]
pub struct Sockets {
    /// TCP listeners in the command's namespace: every connection on them was redirected. Not blocking. One
    /// IPv4 listener a worker, then, where there is IPv6, one IPv6 listener a worker. None with `--proxy-env`.
    pub outbound: Vec<TcpListener>,
    /// The explicit proxy's listener, with `--proxy-env` only. Not blocking.
    pub explicit: Option<TcpListener>,
    /// Who knows of the command's ends of its connections.
    pub ends: Ends,
    /// The way into the namespace, for calls that the command makes to itself: where the host refuses a connection to
    /// a loopback address, the command may be listening there. None with `--proxy-env`.
    pub inside: Option<Inside>,
    /// DNS and published ports, to be spawned on one runtime for as long as the command runs.
    pub services: Services,
}

/// Why a command does not run, or did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system forbids what the namespace needs.
    #[error(
        "no network namespace for the command: {step}: {detail}. Run weir as root, allow user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces, or \
         kernel.apparmor_restrict_unprivileged_userns=0), or use `weir run --proxy-env -- CMD`"
    )]
    NamespacesForbidden {
        /// What was being done.
        step: String,
        /// What the system said.
        detail: String,
    },
    /// Setting the namespace up went wrong.
    #[error(
        "setting up for the command: {step}: {detail}. If it is for lack of nf_tables in the kernel, \
         `weir run --proxy-env -- CMD` does without"
    )]
    Namespace {
        /// What was being done.
        step: String,
        /// What the system said.
        detail: String,
    },
    /// A port cannot be published.
    #[error("publishing {publish}: {source}; is the port free on the host?")]
    Publish {
        /// The port.
        publish: Publish,
        /// What the system said.
        source: std::io::Error,
    },
    /// The command does not exist, or cannot be executed.
    #[error("running {}: {detail}", Path::new(.program).display())]
    Command {
        /// The command.
        program: OsString,
        /// The system's error number.
        errno: Option<i32>,
        /// What the system said.
        detail: String,
    },
    /// The namespace's process was killed; the command was ended with it.
    #[error("the process that keeps the command's namespace was killed, so the command was ended")]
    KeeperLost,
    /// Something that should not fail did.
    #[error("{step}: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl RunError {
    /// The exit code, as env(1) and container runtimes have it: 127 for a command that is not there, 126 for one that
    /// cannot be executed, 125 for weir's own failures.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command { errno, .. } if *errno == Some(nix::libc::ENOENT) => 127,
            Self::Command { .. } => 126,
            Self::NamespacesForbidden { .. }
            | Self::Namespace { .. }
            | Self::Publish { .. }
            | Self::KeeperLost
            | Self::System { .. } => 125,
        }
    }
}

/// Makes the namespace for a command, with listeners for `workers` workers, and everything else but the command itself.
///
/// Must be called before the process starts threads: signals are taken over for those that come later.
///
/// # Errors
/// [`RunError`]; nothing is left then.
pub fn start(options: &RunOptions, workers: usize) -> Result<Session, RunError> {
    let system = |step| move |source| RunError::System { step, source };
    sweep::adopt_orphans().map_err(system("adopting orphaned processes"))?;
    let directory = scratch::choose();
    let control_socket = options.control_socket.clone();
    let leftovers = Leftovers {
        control_socket: control_socket
            .unwrap_or_else(|| directory.join(control_api::socket_dir::SOCKET_NAME)),
        directory,
    };
    let explicit = options.proxy_env.then(explicit_listener).transpose();
    let explicit = explicit.map_err(system("listening for the explicit proxy"))?;
    // In the host's network, so these fail before anything is made.
    let published = options
        .publish
        .iter()
        // Without a namespace the command's ports are the host's already.
        .filter(|_| !options.proxy_env)
        .map(|publish| {
            Published::open(*publish).map_err(|source| RunError::Publish {
                publish: *publish,
                source,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Session::start(session::Setup {
        command: options.command.clone(),
        leftovers,
        explicit,
        published,
        workers,
    })
}

/// On its well-known port, or on any when another weir has that one.
fn explicit_listener() -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, EXPLICIT_PROXY_PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
