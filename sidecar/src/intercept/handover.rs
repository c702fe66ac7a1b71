//! What the process in the application's namespace hands to weir in the host's network: messages, and sockets.
//!
//! Both ends are weir, so the messages are plain JSON. The channel is a Unix socket that keeps message borders; sockets
//! travel on it as `SCM_RIGHTS`. A socket stays in the network namespace it was made in, whoever holds it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, sendmsg, shutdown, socketpair,
};
use serde::{Deserialize, Serialize};

/// Longest message, in bytes. The longest in use carries one error's text.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Most descriptors with one message: listeners of two families for the most workers, two DNS sockets, and the one that
/// asks for the sockets' owners. The kernel's own bound is 253 (`SCM_MAX_FD`).
pub const DESCRIPTORS_MAX: usize = 2 * WORKERS_MAX + 2 + 1;

/// Most workers that a proxy may have.
pub const WORKERS_MAX: usize = 64;

/// From the namespace's process (the keeper) to weir.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// The namespace is set up. Comes with `outbound` listening TCP sockets, then `dns` UDP sockets, then, where the
    /// kernel has socket diagnosis, a socket that asks for it.
    Ready {
        /// How many of the descriptors are TCP listeners.
        outbound: usize,
        /// How many of the descriptors, after the listeners, are UDP sockets.
        dns: usize,
        /// The namespace's inode number, by which its processes are found.
        namespace: Option<u64>,
    },
    /// The namespace could not be made or set up.
    Failed {
        /// What was being done.
        step: String,
        /// Whether the system said that we may not, rather than that it went wrong.
        forbidden: bool,
        /// What the system said.
        detail: String,
    },
    /// The command runs.
    Started {
        /// Its process id.
        pid: i32,
    },
    /// The command could not be started.
    NotStarted {
        /// The system's error number, where there is one.
        errno: Option<i32>,
        /// What the system said.
        detail: String,
    },
    /// The command ended, and so did everything it had started.
    Ended(Ending),
    /// An unconnected TCP socket inside the namespace; comes with it.
    Socket {
        /// The request's number.
        request: u64,
    },
    /// No socket could be made.
    NoSocket {
        /// The request's number.
        request: u64,
        /// The system's error number.
        errno: i32,
    },
}

/// From weir to the namespace's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// Start the command. Comes with its standard input, and with the channel for socket requests.
    Go,
    /// Send this signal to the command.
    Signal(i32),
    /// Make a TCP socket that the redirect leaves alone.
    Socket {
        /// The number that the answer has to carry.
        request: u64,
        /// IPv6 rather than IPv4.
        ipv6: bool,
    },
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Ending {
    /// The exit code that tells of it, as shells have it: the command's own, or 128 and the signal's number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        let code = match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        };
        u8::try_from(code & 0xff).unwrap_or(u8::MAX)
    }
}

/// One end of the channel. Closes on exec, so that only its two processes ever hold it.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Two connected ends.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(a), Self(b)))
    }

    /// Ends the conversation for both ends, whoever holds copies of them.
    pub fn close(&self) {
        // Fails only when the other end is gone, which is what was wanted.
        shutdown(&self.0, Shutdown::Both).ok();
    }

    /// Sends a message and copies of `descriptors`.
    ///
    /// # Errors
    /// `EPIPE` when the other end is gone; [`io::ErrorKind::InvalidInput`] beyond the bounds of a message.
    pub fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let parts = [IoSlice::new(&bytes)];
        rustix::io::retry_on_intr(|| {
            sendmsg(&self.0, &parts, &mut ancillary, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// Waits for a message; `None` when the other end is gone.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when it is no message of that kind.
    pub fn receive<M: for<'de> Deserialize<'de>>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut bytes = [0_u8; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::io::retry_on_intr(|| recvmsg(&self.0, &mut parts, &mut ancillary, flags))
            {
                // The other end was closed with messages of ours unread: gone as well.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => other?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let lost = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        let message = bytes.get(..received.bytes).unwrap_or_default();
        match serde_json::from_slice(message) {
            Ok(message) if !received.flags.intersects(lost) => Ok(Some((message, descriptors))),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Like [`receive`](Self::receive), but waits no longer than `patience`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`], and those of `receive`.
    pub fn receive_within<M: for<'de> Deserialize<'de>>(
        &self,
        patience: Duration,
    ) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        if !wait_readable(self, patience)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.receive()
    }
}

/// Waits until `descriptor` can be read, or has ended; false when `patience` is over first.
///
/// # Errors
/// When the system cannot poll.
pub fn wait_readable(descriptor: &impl AsFd, patience: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(patience).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut watched = [PollFd::new(descriptor, PollFlags::IN)];
    // After an interruption the wait starts anew: signals are rare, and the bound is only a safety net.
    let ready = rustix::io::retry_on_intr(|| poll(&mut watched, Some(&limit)))?;
    Ok(ready > 0)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// For the end that a process inherits.
impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

/// For the end that another process is to inherit.
impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn messages_keep_their_borders_and_sockets_arrive_usable() {
        let (a, b) = Channel::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ready = FromKeeper::Ready {
            outbound: 1,
            dns: 0,
            namespace: Some(7),
        };
        a.send(&ready, &[listener.as_fd()]).unwrap();
        a.send(&FromKeeper::Ended(Ending::Code(3)), &[]).unwrap();

        let (first, mut descriptors) = b.receive::<FromKeeper>().unwrap().unwrap();
        assert_eq!(first, ready);
        let received = TcpListener::from(descriptors.pop().unwrap());
        assert_eq!(
            received.local_addr().unwrap(),
            listener.local_addr().unwrap()
        );
        let (second, descriptors) = b.receive::<FromKeeper>().unwrap().unwrap();
        assert_eq!(second, FromKeeper::Ended(Ending::Code(3)));
        assert!(descriptors.is_empty());
    }

    #[test]
    fn the_other_ends_end_is_seen() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&ToKeeper::Go, &[]).unwrap();
        drop(a);
        assert_eq!(b.receive::<ToKeeper>().unwrap().unwrap().0, ToKeeper::Go);
        assert!(b.receive::<ToKeeper>().unwrap().is_none());
        assert!(b.send(&ToKeeper::Go, &[]).is_err());
    }

    #[test]
    fn a_message_that_is_none_is_refused() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&"nonsense", &[]).unwrap();
        let error = b.receive::<ToKeeper>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = a.send(&"x".repeat(MESSAGE_BYTES_MAX), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_wait_for_a_message_ends() {
        let (_a, b) = Channel::pair().unwrap();
        let error = b
            .receive_within::<ToKeeper>(Duration::from_millis(1))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(Ending::Code(0).exit_code(), 0);
        assert_eq!(Ending::Code(255).exit_code(), 255);
        assert_eq!(Ending::Signal(9).exit_code(), 137);
    }
}
