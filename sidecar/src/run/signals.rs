//! The signals that `weir run` passes on to the command.
//!
//! weir and the command share a process group, so what the terminal sends (Ctrl-C, Ctrl-\, a new window size) reaches
//! both by itself, and passing it on would deliver it twice. What a process sends reaches weir alone, and is passed on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Those that weir takes for the command instead of obeying them itself.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Holds the signals back from this thread, and from all threads that it starts from now on.
///
/// Dropped, it lets them through to this thread again.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
    before: SigSet,
}

/// One that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub number: i32,
    /// Whether it came from the kernel, for the whole process group, as the terminal's do.
    pub for_group: bool,
}

impl Signals {
    /// Takes them over.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn take() -> io::Result<Self> {
        let mut wanted = SigSet::empty();
        for signal in PASSED_ON {
            wanted.add(signal);
        }
        let before = wanted.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&wanted, flags)?;
        Ok(Self { descriptor, before })
    }

    /// The next one that came, without waiting.
    ///
    /// # Errors
    /// When the descriptor breaks.
    pub fn next(&self) -> io::Result<Option<Received>> {
        // signal(7): codes above zero are the kernel's own, SI_USER and the others are processes'.
        Ok(self.descriptor.read_signal()?.and_then(|info| {
            Some(Received {
                number: i32::try_from(info.ssi_signo).ok()?,
                for_group: info.ssi_code > 0,
            })
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // One that is still pending now takes its usual effect: weir's work is done.
        self.before.thread_set_mask().ok();
    }
}
