//! The process that keeps the application's namespace: makes it, starts the command in it, and cleans up after it.
//!
//! weir starts itself again as this process, because a namespace can only be made by a process with one thread. It
//! stays for as long as the command runs, with three duties: it makes sockets inside for those who ask
//! ([`Inside`](crate::intercept::inside)), it passes signals on, and it ends whatever the command leaves behind. Should
//! weir itself be killed, the channel to it closes, and the keeper ends everything at once. Should the keeper be
//! killed, weir does the same from outside.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};

use super::scratch::{self, Leftovers};
use super::sweep::{self, Manner};
use crate::intercept::handover::{Channel, Ending, FromKeeper, ToKeeper};
use crate::intercept::namespace::{self, Isolation, NamespaceError};
use crate::intercept::redirect::Installed;

const STEP_SCRATCH: &str = "making a directory for the control socket";

/// How weir starts its keeper. Not for people: `weir run` is.
#[derive(Debug, Clone, clap::Args)]
pub struct KeeperOptions {
    /// How far to set the command apart.
    #[arg(long)]
    pub isolation: Isolation,
    /// How many listeners to make a family.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// The process group that the command belongs to: weir's, so that the terminal treats them alike.
    #[arg(long)]
    pub group: i32,
    /// A directory to make, and to remove at the end.
    #[arg(long)]
    pub scratch: PathBuf,
    /// Where weir puts its control socket; removed at the end should weir have been killed.
    #[arg(long)]
    pub control_socket: PathBuf,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Runs as the keeper; the channel to weir is on standard input.
#[must_use]
pub fn main(options: &KeeperOptions) -> ExitCode {
    match keep(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::debug!(%error, "the keeper failed");
            ExitCode::FAILURE
        }
    }
}

fn keep(options: &KeeperOptions) -> io::Result<()> {
    // Started by way of /proc/self/exe, it would be listed as "exe".
    rustix::thread::set_name(c"weir-keeper").ok();
    // A copy that closes on exec; the command gets another standard input.
    let weir = Channel::from(io::stdin().as_fd().try_clone_to_owned()?);
    sweep::adopt_orphans()?;
    // Removed on every way out.
    let _leftovers = Leftovers {
        directory: options.scratch.clone(),
        control_socket: options.control_socket.clone(),
    };
    let (namespace, _installed) = match hand_over(&weir, options) {
        Ok(handed) => handed.unzip(),
        Err(Handover::Failed(error)) => return weir.send(&failure(&error), &[]),
        Err(Handover::Broken(error)) => return Err(error),
    };
    let Some((ToKeeper::Go, descriptors)) = weir.receive()? else {
        // weir was killed, or thought better of it.
        return Ok(());
    };
    let [input, requests]: [OwnedFd; 2] = descriptors
        .try_into()
        .map_err(|_| io::ErrorKind::InvalidData)?;
    let pid = match start(options, input) {
        Ok(pid) => pid,
        Err(error) => {
            let errno = error.raw_os_error();
            let detail = error.to_string();
            return weir.send(&FromKeeper::NotStarted { errno, detail }, &[]);
        }
    };
    // From here on a command runs: whatever happens, it is swept up.
    let outcome = Keeper::serve(&weir, Channel::from(requests), pid);
    if let Ok(Some(ending)) = outcome {
        sweep::sweep(namespace, Manner::AskFirst);
        return weir.send(&FromKeeper::Ended(ending), &[]);
    }
    sweep::sweep(namespace, Manner::Kill);
    outcome.map(drop)
}

enum Handover {
    /// There is no namespace.
    Failed(NamespaceError),
    /// There is nobody to hand it to.
    Broken(io::Error),
}

/// Makes the namespace and sends its sockets away; none of them stays here. Returns its inode number, and what is
/// slow to close.
fn hand_over(
    weir: &Channel,
    options: &KeeperOptions,
) -> Result<Option<(u64, Installed)>, Handover> {
    if options.isolation == Isolation::None {
        make_scratch(options).map_err(Handover::Failed)?;
        let ready = FromKeeper::Ready {
            outbound: 0,
            dns: 0,
            namespace: None,
        };
        weir.send(&ready, &[]).map_err(Handover::Broken)?;
        return Ok(None);
    }
    let prepared =
        namespace::enter(options.isolation, options.workers).map_err(Handover::Failed)?;
    make_scratch(options).map_err(Handover::Failed)?;
    let ready = FromKeeper::Ready {
        outbound: prepared.outbound.len(),
        dns: prepared.dns.len(),
        namespace: Some(prepared.inode),
    };
    let sockets: Vec<BorrowedFd<'_>> = prepared
        .outbound
        .iter()
        .map(AsFd::as_fd)
        .chain(prepared.dns.iter().map(AsFd::as_fd))
        .chain(prepared.diagnosis.iter().map(AsFd::as_fd))
        .collect();
    weir.send(&ready, &sockets).map_err(Handover::Broken)?;
    Ok(Some((prepared.inode, prepared.installed)))
}

fn make_scratch(options: &KeeperOptions) -> Result<(), NamespaceError> {
    scratch::create(&options.scratch).map_err(|source| NamespaceError {
        step: STEP_SCRATCH,
        source,
    })
}

fn failure(error: &NamespaceError) -> FromKeeper {
    FromKeeper::Failed {
        step: error.step.to_owned(),
        forbidden: error.step != STEP_SCRATCH && error.is_forbidden(),
        detail: error.source.to_string(),
    }
}

fn start(options: &KeeperOptions, input: OwnedFd) -> io::Result<Pid> {
    let (program, arguments) = options
        .command
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(input))
        .process_group(options.group)
        .spawn()?;
    // Not waited for through the handle: the keeper collects every child, its own and the adopted ones.
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    Ok(Pid::from_raw(pid))
}

/// From here on no signal but SIGKILL ends the keeper, and SIGCHLD is read. Only now, for the command would have
/// inherited the blocked signals.
fn watch_children() -> io::Result<SignalFd> {
    SigSet::all().thread_block()?;
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&wanted, flags)?)
}

struct Keeper<'a> {
    weir: &'a Channel,
    /// None once nobody can ask any more.
    requests: Option<Channel>,
    children: SignalFd,
    command: Pid,
}

impl<'a> Keeper<'a> {
    /// Serves until the command ends, and tells how; `None` when weir is gone.
    fn serve(weir: &'a Channel, requests: Channel, command: Pid) -> io::Result<Option<Ending>> {
        let mut keeper = Self {
            weir,
            requests: Some(requests),
            children: watch_children()?,
            command,
        };
        let started = FromKeeper::Started {
            pid: command.as_raw(),
        };
        keeper.weir.send(&started, &[])?;
        keeper.run()
    }

    fn run(&mut self) -> io::Result<Option<Ending>> {
        loop {
            // First, for the command may have ended before its signal was watched.
            if let Some(ending) = self.collect() {
                return Ok(Some(ending));
            }
            let (weir, requests) = self.wait()?;
            while self.children.read_signal()?.is_some() {}
            if weir {
                match self.weir.receive()? {
                    Some((ToKeeper::Signal(number), _)) => self.pass_on(number),
                    Some((ToKeeper::Go | ToKeeper::Socket { .. }, _)) => {}
                    None => return Ok(None),
                }
            }
            if requests && !self.answer()? {
                self.requests = None;
            }
        }
    }

    /// Collects ended children; tells how the command ended once it is among them.
    fn collect(&self) -> Option<Ending> {
        loop {
            match sweep::reap() {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.command => {
                    return Some(Ending::Code(code));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.command => {
                    #[allow(clippy::as_conversions, reason = "a C enumeration's number")]
                    return Some(Ending::Signal(signal as i32));
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return None,
                // An adopted one.
                Ok(_) => {}
            }
        }
    }

    /// Waits until there is something to do; tells whether weir, or one who wants a socket, has something to say.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let mut watched = vec![
            PollFd::new(self.weir, PollFlags::IN),
            PollFd::new(&self.children, PollFlags::IN),
        ];
        if let Some(requests) = &self.requests {
            watched.push(PollFd::new(requests, PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| poll(&mut watched, None))?;
        let is_ready = |at: usize| watched.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok((is_ready(0), is_ready(2)))
    }

    /// To the command itself only; its children are its own affair.
    fn pass_on(&self, number: i32) {
        if let Ok(signal) = Signal::try_from(number) {
            kill(self.command, signal).ok();
        }
    }

    /// Makes one socket for one who asks; false when nobody can ask any more.
    fn answer(&self) -> io::Result<bool> {
        let Some(requests) = &self.requests else {
            return Ok(false);
        };
        let Some((ToKeeper::Socket { request, ipv6 }, _)) = requests.receive()? else {
            return Ok(false);
        };
        let sent = match namespace::bypass_socket(ipv6) {
            Ok(socket) => {
                let answer = FromKeeper::Socket { request };
                requests.send(&answer, &[socket.as_fd()])
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(nix::libc::EIO);
                requests.send(&FromKeeper::NoSocket { request, errno }, &[])
            }
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            other => other.map(|()| true),
        }
    }
}
