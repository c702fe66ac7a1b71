//! Whether somebody still holds the application's end of a connection, as the kernel knows.
//!
//! TCP does not tell a client that has closed from one that has only finished sending: either is an end of stream. But
//! the application runs on our own kernel, whose socket diagnosis (`sock_diag(7)`) says of any connection whether it
//! belongs to a file: one that was closed, or whose owner was killed, does not. Asking needs no privilege, and waits for
//! nothing: the kernel answers before the system call that asks returns.
//!
//! Only sockets of one network namespace can be asked about, the one that the asking socket was made in. For `weir run`
//! the [keeper](crate::run::keeper) makes it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// Who has the application's end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The application, which has only finished sending.
    Application,
    /// Nobody: it was closed, or its owner is dead.
    Nobody,
    /// The kernel knows no such end: it is gone without a trace, or never was on this machine.
    Missing,
    /// The kernel cannot be asked.
    Unknown,
}

/// Asks about the sockets of one network namespace. Cheap to clone; the default has nobody to ask.
#[derive(Debug, Clone, Default)]
pub struct Ends(Option<Arc<Mutex<Diagnosis>>>);

impl Ends {
    /// Asks about this process's own namespace, if the kernel knows `listener` there.
    #[must_use]
    pub fn here(listener: SocketAddr) -> Self {
        open().map_or_else(|_| Self::default(), |socket| Self::over(socket, listener))
    }

    /// Asks on `socket`, which [`open`] has made, if the kernel knows `listener` in that namespace.
    ///
    /// One question is asked here, before anything is served: it may make the kernel load a module, and shows whether
    /// there is one. The listener is ours, so that a kernel that knows nothing of it knows nothing.
    #[must_use]
    pub fn over(socket: OwnedFd, listener: SocketAddr) -> Self {
        let mut diagnosis = Diagnosis { socket, last: 0 };
        let anybody = SocketAddr::new(listener.ip(), 0);
        match diagnosis.ask(listener, anybody) {
            Ok(Some(_)) => Self(Some(Arc::new(Mutex::new(diagnosis)))),
            Ok(None) | Err(_) => Self::default(),
        }
    }

    /// Whether there is nobody to ask.
    #[must_use]
    pub fn are_unknown(&self) -> bool {
        self.0.is_none()
    }

    /// The end of the application that dialled `dialled` from `client`.
    #[must_use]
    pub fn of(&self, client: SocketAddr, dialled: SocketAddr) -> ClientEnd {
        ClientEnd {
            ends: self.clone(),
            client,
            dialled,
        }
    }
}

/// The application's end of one connection.
#[derive(Debug, Clone)]
pub struct ClientEnd {
    ends: Ends,
    client: SocketAddr,
    dialled: SocketAddr,
}

impl ClientEnd {
    /// Who holds it, once it has ended its sending. Two system calls.
    #[must_use]
    pub fn holder(&self) -> Holder {
        let Some(diagnosis) = &self.ends.0 else {
            return Holder::Unknown;
        };
        let mut diagnosis = diagnosis.lock().unwrap_or_else(PoisonError::into_inner);
        match diagnosis.ask(self.client, self.dialled) {
            // Any other state is that of another socket: the redirect has changed the client's port.
            Ok(Some(end)) if !SENDING_ENDED.contains(&end.state) => Holder::Unknown,
            Ok(Some(end)) if end.inode == 0 => Holder::Nobody,
            Ok(Some(_)) => Holder::Application,
            Ok(None) => Holder::Missing,
            Err(_) => Holder::Unknown,
        }
    }
}

/// Makes a socket that asks about this process's namespace.
///
/// # Errors
/// When the kernel has no socket diagnosis, or the system no descriptor left.
pub fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(netlink::SOCK_DIAG);
    Ok(socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        protocol,
    )?)
}

#[derive(Debug)]
struct Diagnosis {
    socket: OwnedFd,
    /// The last question's number.
    last: u32,
}

/// What the kernel says of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    state: u8,
    /// Zero where no file has it.
    inode: u32,
}

impl Diagnosis {
    /// Asks for the socket at `local` whose other end is `remote`; none where there is no such socket.
    fn ask(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<End>> {
        self.last = self.last.wrapping_add(1);
        let question = question(self.last, local, remote);
        send(&self.socket, &question, SendFlags::empty())?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        for _ in 0..STALE_ANSWERS_MAX {
            let (read, _) = recv(&self.socket, &mut answer, RecvFlags::empty())?;
            let answer = answer.get(..read).unwrap_or_default();
            if word(answer, SEQUENCE_AT) == Some(self.last) {
                return Ok(end_of(answer));
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A `struct nlmsghdr` with a `struct inet_diag_req_v2` that names one connection (`linux/inet_diag.h`).
fn question(number: u32, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let (local, remote) = (canonical(local), canonical(remote));
    let family = match local {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let interface = match local {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(local) => local.scope_id(),
    };
    let [family, ..] = family.as_raw().to_ne_bytes();
    let mut bytes = Vec::with_capacity(QUESTION_BYTES);
    bytes.extend(u32::try_from(QUESTION_BYTES).unwrap_or(0).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    // The states that a listing would be made of. One socket is asked for, whatever its state.
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    bytes.extend(padded(local.ip()));
    bytes.extend(padded(remote.ip()));
    bytes.extend(interface.to_ne_bytes());
    // INET_DIAG_NOCOOKIE: whichever socket has these addresses.
    bytes.extend([u8::MAX; 8]);
    bytes
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        v4 @ IpAddr::V4(_) => SocketAddr::new(v4, address.port()),
        IpAddr::V6(_) => address,
    }
}

fn padded(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            for (byte, octet) in bytes.iter_mut().zip(v4.octets()) {
                *byte = octet;
            }
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Reads a `struct nlmsghdr` with a `struct inet_diag_msg`; none where it is an error.
fn end_of(answer: &[u8]) -> Option<End> {
    let kind = answer.get(TYPE_AT..)?.first_chunk()?;
    if u16::from_ne_bytes(*kind) != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    Some(End {
        state: *answer.get(STATE_AT)?,
        inode: word(answer, INODE_AT)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// `FIN_WAIT1`, `FIN_WAIT2`, `TIME_WAIT`, `CLOSING`: the states after a FIN of its own (`net/tcp_states.h`).
const SENDING_ENDED: [u8; 4] = [4, 5, 6, 11];

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
/// A header of 16 bytes, and a request of 56.
const QUESTION_BYTES: usize = 72;
/// A header, 72 bytes of what is always told, and some attributes that are not of interest and may be cut off.
const ANSWER_BYTES_MAX: usize = 256;
/// Answers to earlier questions that were not read, should a signal ever have come in between.
const STALE_ANSWERS_MAX: usize = 4;
/// Where things stand in an answer, in bytes.
const TYPE_AT: usize = 4;
const SEQUENCE_AT: usize = 8;
const STATE_AT: usize = 17;
const INODE_AT: usize = 84;

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    /// A client, the accepted connection, and what is known of the client's end.
    fn connected(address: &str) -> (TcpStream, TcpStream, ClientEnd) {
        let listener = TcpListener::bind(address).unwrap();
        let dialled = listener.local_addr().unwrap();
        let client = TcpStream::connect(dialled).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let end = Ends::here(dialled).of(peer, dialled);
        (client, accepted, end)
    }

    #[test]
    fn a_client_that_only_finished_sending_still_holds_its_end() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (client, _accepted, end) = connected(address);
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(end.holder(), Holder::Application, "{address}");
        }
    }

    #[test]
    fn nobody_holds_the_end_of_a_client_that_has_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (client, _accepted, end) = connected(address);
            drop(client);
            assert_eq!(end.holder(), Holder::Nobody, "{address}");
            assert_eq!(end.holder(), Holder::Nobody, "{address}");
        }
    }

    #[test]
    fn a_client_of_an_ipv6_socket_with_an_ipv4_address_is_known_as_well() {
        let (client, _accepted, end) = connected("127.0.0.1:0");
        let mapped = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
            IpAddr::V6(_) => address,
        };
        client.shutdown(Shutdown::Write).unwrap();
        let end = end.ends.of(mapped(end.client), mapped(end.dialled));
        assert_eq!(end.holder(), Holder::Application);
    }

    #[test]
    fn what_is_another_connection_or_none_is_held_by_nobody_known() {
        let (client, _accepted, end) = connected("127.0.0.1:0");
        // Still sending, so not the one whose end was seen.
        assert_eq!(end.holder(), Holder::Unknown);
        drop(client);
        let elsewhere = SocketAddr::from(([203, 0, 113, 7], 80));
        assert_eq!(end.ends.of(end.client, elsewhere).holder(), Holder::Missing);
        assert_eq!(
            Ends::default().of(end.client, end.dialled).holder(),
            Holder::Unknown
        );
    }

    #[test]
    fn a_kernel_that_does_not_know_the_listener_is_not_asked() {
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        assert!(Ends::here(closed).are_unknown());
    }
}
