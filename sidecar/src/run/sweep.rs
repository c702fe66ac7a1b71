//! Ends every process that the application left behind.
//!
//! Two marks tell them: they live in the application's network namespace, or they descend from us (we are their
//! *subreaper*, so those whose parent ended are our children). A process can shed one mark, hardly both.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long processes may take to end after SIGTERM, before they are killed.
pub const GRACE: Duration = Duration::from_millis(500);

/// How long killed processes may take to be gone. Longer only when one hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks at the process table.
const PAUSE: Duration = Duration::from_millis(2);

/// How much kindness the leftovers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// SIGTERM, and SIGKILL after [`GRACE`].
    AskFirst,
    /// SIGKILL at once: nobody is left to serve them.
    Kill,
}

/// Makes this process the parent of those whose own parent ends before them.
///
/// # Errors
/// On kernels before 3.4.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Ends all processes of the network namespace `inode` but this one, and all children of this one.
///
/// Returns once none is left, or when the kernel cannot get rid of one for seconds.
pub fn sweep(namespace: Option<u64>, manner: Manner) {
    let start = now();
    let mut signal = match manner {
        Manner::AskFirst => Signal::SIGTERM,
        Manner::Kill => Signal::SIGKILL,
    };
    let mut told: Vec<Pid> = Vec::new();
    loop {
        reap_children();
        let left = leftovers(namespace);
        if left.is_empty() || start.elapsed() > GRACE + PATIENCE {
            return;
        }
        if signal == Signal::SIGTERM && start.elapsed() > GRACE {
            signal = Signal::SIGKILL;
        }
        for pid in left {
            // Asked once, killed as often as it takes.
            if signal == Signal::SIGKILL || !told.contains(&pid) {
                told.push(pid);
                // ESRCH: it ended by itself. EPERM: it is not ours to end, and the bound above ends the wait.
                kill(pid, signal).ok();
                kill(pid, Signal::SIGCONT).ok();
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Collects children that have ended, other than those that someone waits for by name.
fn reap_children() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

fn leftovers(namespace: Option<u64>) -> Vec<Pid> {
    let own = Pid::this();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| *pid != own)
        .filter(|pid| {
            namespace.is_some_and(|inode| is_in(*pid, inode)) || parent_of(*pid) == Some(own)
        })
        .collect()
}

/// Whether a live process is in the network namespace `inode`. Zombies are in none.
fn is_in(pid: Pid, inode: u64) -> bool {
    fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link.ino() == inode)
}

/// The fourth field of `/proc/PID/stat`; the second one, the name, is in parentheses and may hold anything.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
    Some(Pid::from_raw(parent))
}

#[allow(
    clippy::disallowed_methods,
    reason = "real processes end in real time; this runs in no runtime whose clock could be paused"
)]
fn now() -> Instant {
    Instant::now()
}

/// Collects one child that has ended, without waiting.
///
/// # Errors
/// `ECHILD` when there are no children at all.
pub fn reap() -> Result<WaitStatus, Errno> {
    waitpid(None, Some(WaitPidFlag::WNOHANG))
}
