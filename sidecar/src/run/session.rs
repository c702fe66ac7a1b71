//! One `weir run`, from the namespace's making to its end, as weir sees it from the host's network.

use std::ffi::OsString;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Pid, geteuid, getpgid, getpgrp};
use rustix::event::{PollFd, PollFlags, poll};

use super::scratch::Leftovers;
use super::services::Services;
use super::signals::{Received, Signals};
use super::sweep::{self, Manner};
use super::{RunError, Sockets, environment};
use crate::intercept::client_end::Ends;
use crate::intercept::handover::{Channel, FromKeeper, ToKeeper, wait_readable};
use crate::intercept::inside::Inside;
use crate::intercept::namespace::Isolation;
use crate::intercept::publish::{Published, Relays};

/// How weir is found again, even when its file has been replaced or removed meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The hidden command that weir starts itself with.
pub const KEEPER_COMMAND: &str = "namespace-keeper";

/// Longest wait for the namespace, and for the command to be executed. Both take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for clients of published ports, once the application is gone.
const RELAY_PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at them.
const PAUSE: Duration = Duration::from_millis(2);

/// What a session is made of; see [`start`](super::start).
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) command: Vec<OsString>,
    pub(super) leftovers: Leftovers,
    pub(super) explicit: Option<TcpListener>,
    pub(super) published: Vec<Published>,
    pub(super) workers: usize,
}

/// A command in its namespace. Dropped, it ends both.
#[derive(Debug)]
pub struct Session {
    sockets: Option<Sockets>,
    requests: Option<Channel>,
    relays: Relays,
    keeper: Keeper,
    program: OsString,
    signals: Signals,
    // Last: removed when the keeper is gone.
    leftovers: Leftovers,
}

/// The keeper's process and the channel to it.
#[derive(Debug)]
struct Keeper {
    channel: Channel,
    process: Child,
    namespace: Option<u64>,
    /// Once it runs.
    command: Option<Pid>,
}

/// What the keeper sent when it was ready.
struct Ready {
    keeper: Keeper,
    outbound: Vec<TcpListener>,
    dns: Vec<UdpSocket>,
    diagnosis: Option<OwnedFd>,
}

impl Ready {
    /// `descriptors` are first those of `outbound` listeners, then those of `dns` sockets, then perhaps one more.
    fn of(keeper: Keeper, descriptors: Vec<OwnedFd>, outbound: usize, dns: usize) -> Self {
        let mut descriptors = descriptors.into_iter();
        let listeners = descriptors.by_ref().take(outbound);
        let outbound = listeners.map(TcpListener::from).collect();
        let sockets = descriptors.by_ref().take(dns);
        Self {
            keeper,
            outbound,
            dns: sockets.map(UdpSocket::from).collect(),
            diagnosis: descriptors.next(),
        }
    }
}

impl Session {
    pub(super) fn start(setup: Setup) -> Result<Self, RunError> {
        let ready = make_namespace(&setup)?;
        // After the keeper, which must not inherit the mask; before any thread, which all must.
        let signals = Signals::take().map_err(system("taking signals over"))?;
        let (ours, requests) = Channel::pair().map_err(system("making a channel"))?;
        let relays = Relays::default();
        let inside = ready.keeper.namespace.map(|_| Inside::new(ours));
        let ends = ends(ready.diagnosis, &ready.outbound, setup.explicit.as_ref());
        Ok(Self {
            sockets: Some(Sockets {
                outbound: ready.outbound,
                explicit: setup.explicit,
                ends,
                inside: inside.clone(),
                services: Services {
                    dns: ready.dns,
                    published: setup.published,
                    inside,
                    relays: relays.clone(),
                },
            }),
            relays,
            requests: Some(requests),
            keeper: ready.keeper,
            program: setup.command.first().cloned().unwrap_or_default(),
            signals,
            leftovers: setup.leftovers,
        })
    }

    /// What the data plane is to serve. The first call has them, later ones have nothing.
    pub fn take_sockets(&mut self) -> Option<Sockets> {
        self.sockets.take()
    }

    /// Where the control API's socket is to be; the command knows it as `WEIR_CONTROL_SOCKET`.
    #[must_use]
    pub fn control_socket(&self) -> &Path {
        &self.leftovers.control_socket
    }

    /// Starts the command; returns its process id. The sockets must be served by now.
    ///
    /// # Errors
    /// [`RunError::Command`] when it cannot be executed.
    pub fn go(&mut self) -> Result<u32, RunError> {
        let stdin = io::stdin();
        let requests = self
            .requests
            .take()
            .ok_or_else(|| system("starting the command twice")(Errno::EALREADY.into()))?;
        let sent = self
            .keeper
            .channel
            .send(&ToKeeper::Go, &[stdin.as_fd(), requests.as_fd()]);
        sent.map_err(|_| self.lost())?;
        drop(requests);
        match self.keeper.receive()? {
            Some((FromKeeper::Started { pid }, _)) => {
                self.keeper.command = Some(Pid::from_raw(pid));
                Ok(pid.unsigned_abs())
            }
            Some((FromKeeper::NotStarted { errno, detail }, _)) => Err(RunError::Command {
                program: self.program.clone(),
                errno,
                detail,
            }),
            Some(_) | None => Err(self.lost()),
        }
    }

    /// Does what the keeper, being killed, cannot do any more.
    fn lost(&mut self) -> RunError {
        self.keeper.end();
        sweep::sweep(self.keeper.namespace, Manner::Kill);
        RunError::KeeperLost
    }

    /// Waits until the command has ended and nothing of it is left; signals are passed on meanwhile. Returns its exit
    /// code, or 128 and the number of the signal that killed it.
    ///
    /// # Errors
    /// [`RunError::KeeperLost`] when the keeper was killed. The command is then ended as well.
    pub fn wait(&mut self) -> Result<u8, RunError> {
        loop {
            let told = self.poll().map_err(system("waiting for the command"))?;
            while let Some(received) = self.signals.next().map_err(system("reading a signal"))? {
                self.pass_on(received);
            }
            if !told {
                continue;
            }
            match self.keeper.receive()? {
                Some((FromKeeper::Ended(ending), _)) => {
                    self.keeper.end();
                    self.let_relays_end();
                    return Ok(ending.exit_code());
                }
                Some(_) => {}
                None => return Err(self.lost()),
            }
        }
    }

    /// Lets clients of published ports read what the application wrote last; with it gone there is no more to come.
    fn let_relays_end(&self) {
        let mut left = RELAY_PATIENCE;
        while self.relays.open() > 0 && !left.is_zero() {
            std::thread::sleep(PAUSE);
            left = left.saturating_sub(PAUSE);
        }
    }

    /// Waits for a signal, or for the keeper; tells whether the keeper has something to say.
    fn poll(&self) -> io::Result<bool> {
        let mut watched = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.keeper.channel, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut watched, None))?;
        let [_, keeper] = &watched;
        Ok(!keeper.revents().is_empty())
    }

    fn pass_on(&self, received: Received) {
        // The command may have left our process group (setsid, an interactive shell): then it got nothing yet.
        let in_our_group = self.keeper.command.map(|pid| getpgid(Some(pid))) == Some(Ok(getpgrp()));
        if received.for_group && in_our_group {
            return;
        }
        // A keeper that is gone is seen by `wait`.
        let signal = ToKeeper::Signal(received.number);
        drop(self.keeper.channel.send(&signal, &[]));
    }
}

impl Keeper {
    fn receive(&self) -> Result<Option<(FromKeeper, Vec<OwnedFd>)>, RunError> {
        self.channel
            .receive_within(PATIENCE)
            .map_err(system("hearing from the namespace's process"))
    }

    /// Waits for the keeper's end.
    fn end(&mut self) {
        // Nothing more is said, so the channel becomes readable when the keeper is gone.
        if !matches!(wait_readable(&self.channel, PATIENCE), Ok(true)) {
            drop(self.process.kill());
        }
        drop(self.process.wait());
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The keeper then ends everything, and itself at last.
        self.channel.close();
        drop(self.process.wait());
    }
}

/// Starts a keeper that can make a namespace here: root may need no user namespace, others do.
fn make_namespace(setup: &Setup) -> Result<Ready, RunError> {
    if setup.explicit.is_some() {
        return start_keeper(setup, Isolation::None);
    }
    if geteuid().is_root() {
        match start_keeper(setup, Isolation::Network) {
            // Root in a container often lacks CAP_SYS_ADMIN, and may still have a user namespace.
            Err(RunError::NamespacesForbidden { .. }) => {}
            other => return other,
        }
    }
    start_keeper(setup, Isolation::User)
}

fn start_keeper(setup: &Setup, isolation: Isolation) -> Result<Ready, RunError> {
    let (channel, theirs) = Channel::pair().map_err(system("making a channel"))?;
    let mut command = Command::new(OWN_PROGRAM);
    command
        .arg0("weir")
        .arg(KEEPER_COMMAND)
        .arg("--isolation")
        .arg(match isolation {
            Isolation::None => "none",
            Isolation::Network => "network",
            Isolation::User => "user",
        })
        .arg("--workers")
        .arg(setup.workers.to_string())
        .arg("--group")
        .arg(getpgrp().to_string())
        .arg("--scratch")
        .arg(&setup.leftovers.directory)
        .arg("--control-socket")
        .arg(&setup.leftovers.control_socket)
        .arg("--")
        .args(&setup.command)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        // Out of the terminal's reach: Ctrl-C is for the command.
        .process_group(0);
    environment::set_control_socket(&mut command, &setup.leftovers.control_socket);
    if let Some(listener) = &setup.explicit {
        let address = listener
            .local_addr()
            .map_err(system("reading the proxy's address"))?;
        environment::set_proxy(&mut command, address);
    }
    let process = command
        .spawn()
        .map_err(system("starting the namespace's process"))?;
    // The command holds a copy of the keeper's end of the channel.
    drop(command);
    let mut keeper = Keeper {
        channel,
        process,
        namespace: None,
        command: None,
    };
    match keeper.receive()? {
        Some((
            FromKeeper::Ready {
                outbound,
                dns,
                namespace,
            },
            descriptors,
        )) => {
            keeper.namespace = namespace;
            Ok(Ready::of(keeper, descriptors, outbound, dns))
        }
        Some((
            FromKeeper::Failed {
                step,
                forbidden: true,
                detail,
            },
            _,
        )) => Err(RunError::NamespacesForbidden { step, detail }),
        Some((FromKeeper::Failed { step, detail, .. }, _)) => {
            Err(RunError::Namespace { step, detail })
        }
        Some(_) | None => Err(RunError::KeeperLost),
    }
}

/// Who knows of the command's ends: they are in its namespace, or in ours where it uses the explicit proxy.
fn ends(
    diagnosis: Option<OwnedFd>,
    outbound: &[TcpListener],
    explicit: Option<&TcpListener>,
) -> Ends {
    let address = |listener: &TcpListener| listener.local_addr().ok();
    let inside = diagnosis.zip(outbound.first().and_then(address));
    let here = explicit.and_then(address);
    match (inside, here) {
        (Some((socket, listener)), _) => Ends::over(socket, listener),
        (None, Some(listener)) => Ends::here(listener),
        (None, None) => Ends::default(),
    }
}

fn system(step: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { step, source }
}
