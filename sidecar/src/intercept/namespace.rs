//! The application's own network namespace: everything it dials lands on our sockets.
//!
//! The namespace has one interface, `lo`, and says of every address that it is local. So whatever the application
//! dials is delivered to `lo`, and the [rules](super::rules) hand it to the sockets that are bound here. The sockets
//! then go to weir in the host's network, which serves them: nothing in the namespace has a way out of its own.
//!
//! All of this happens in a process of its own (the keeper), while it has one thread: the kernel makes a user
//! namespace for single-threaded processes only.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use control_api::well_known::OUTBOUND_PORT;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{getegid, geteuid};
use nlink::netlink::types::route::{RouteScope, RouteType};
use nlink::{Connection, Ipv4Address, Ipv4Route, Ipv6Address, Ipv6Route, Route};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use socket2::{Domain, Protocol, Socket, Type};

use super::client_end;
use super::redirect::{self, Installed, RedirectError};
use super::rules::{BYPASS_MARK, Ruleset};

/// The index of `lo` in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// The IPv4 dummy address (RFC 7600 §4.8).
const DUMMY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// An address of the discard-only prefix (RFC 6666).
const DISCARD_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);

/// Most connections that wait to be accepted, per listener.
const BACKLOG: i32 = 4096;

/// Most IPv6 routes that are copied one by one; a host with more gets a default route instead.
const ROUTES_MAX: usize = 256;

const UNPRIVILEGED_PORT_START: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// How far the application is set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Isolation {
    /// Not at all: it uses the host's network, and an explicit proxy.
    None,
    /// A network namespace, as root may have one.
    Network,
    /// A network namespace within a user namespace, as anybody may have one where the system allows it.
    User,
}

/// The sockets of a namespace, bound on loopback, and how the namespace is told from others.
#[derive(Debug)]
pub struct Prepared {
    /// TCP: where redirected connections arrive. One IPv4 listener a worker, then, where there is IPv6, one IPv6
    /// listener a worker.
    pub outbound: Vec<TcpListener>,
    /// UDP: where redirected DNS queries arrive. One a family.
    pub dns: Vec<UdpSocket>,
    /// Netlink: what [`Ends`](super::client_end::Ends) asks on. None where the kernel has no socket diagnosis.
    pub diagnosis: Option<OwnedFd>,
    /// The namespace's inode number.
    pub inode: u64,
    /// To be kept until the namespace is in use, for closing it takes longer than all the rest.
    pub installed: Installed,
}

/// Why there is no namespace.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct NamespaceError {
    /// What was being done.
    pub step: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl NamespaceError {
    /// Whether the system forbids namespaces, so that another way may work.
    ///
    /// `EINVAL` and `ENOSYS` come from kernels without user namespaces, `ENOSPC` and `EUSERS` from a limit of zero.
    /// Where a security module (`AppArmor` on Ubuntu) takes the capabilities away instead, a later step gets `EPERM`.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        let errno = self.source.raw_os_error().map(Errno::from_raw);
        match errno {
            Some(Errno::EPERM | Errno::EACCES) => true,
            Some(Errno::EINVAL | Errno::ENOSYS | Errno::ENOSPC | Errno::EUSERS) => {
                self.step == STEP_UNSHARE
            }
            _ => false,
        }
    }
}

const STEP_UNSHARE: &str = "making a network namespace";

/// Moves this process into a new namespace and sets it up, with listeners for `workers` workers.
///
/// Must be called while the process has a single thread. The process keeps its user and group; in a user namespace it
/// gains every capability *there*, and what it starts later gets none of them.
///
/// # Errors
/// [`NamespaceError`] names the step that failed. The process is then of no further use.
pub fn enter(isolation: Isolation, workers: usize) -> Result<Prepared, NamespaceError> {
    let at = |step| move |source: io::Error| NamespaceError { step, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(at("starting a runtime"))?;
    // The host's own facts, while we still see them.
    let routes = runtime.block_on(routes_v6());
    let port_start = fs::read_to_string(UNPRIVILEGED_PORT_START);

    unshare(isolation)?;
    let port = OUTBOUND_PORT;
    let installed = runtime.block_on(set_up(port, &routes))?;
    if let Ok(host) = port_start
        && fs::read_to_string(UNPRIVILEGED_PORT_START).is_ok_and(|ours| ours != host)
    {
        // A convenience only: an application that may listen on port 80 without weir may do so with it.
        drop(fs::write(UNPRIVILEGED_PORT_START, host));
    }
    let (outbound, dns) = bind_all(port, workers).map_err(at("listening in the namespace"))?;
    if isolation == Isolation::User {
        drop_bounding_set().map_err(at("dropping capabilities"))?;
    }
    Ok(Prepared {
        outbound,
        dns,
        diagnosis: client_end::open().ok(),
        inode: own_inode().map_err(at("identifying the namespace"))?,
        installed,
    })
}

/// An unconnected, non-blocking TCP socket in this process's namespace that the redirect leaves alone.
///
/// # Errors
/// When the system has no descriptor left, or the process no `CAP_NET_ADMIN` here.
pub fn bypass_socket(ipv6: bool) -> io::Result<OwnedFd> {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_mark(BYPASS_MARK)?;
    Ok(socket.into())
}

/// The inode number of this process's network namespace.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn own_inode() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/net")?.ino())
}

fn unshare(isolation: Isolation) -> Result<(), NamespaceError> {
    let flags = match isolation {
        Isolation::None => CloneFlags::empty(),
        Isolation::Network => CloneFlags::CLONE_NEWNET,
        Isolation::User => CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET,
    };
    let (uid, gid) = (geteuid(), getegid());
    nix::sched::unshare(flags).map_err(|errno| NamespaceError {
        step: STEP_UNSHARE,
        source: errno.into(),
    })?;
    if isolation != Isolation::User {
        return Ok(());
    }
    let write = |path: &str, text: String| {
        fs::write(path, text).map_err(|source| NamespaceError {
            step: "mapping the user into the namespace",
            source,
        })
    };
    // user_namespaces(7): without privilege a group may be mapped only once setgroups is given up.
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Brings `lo` up, sends every address there, and installs the rules.
async fn set_up(port: u16, routes: &[(Ipv6Addr, u8)]) -> Result<Installed, NamespaceError> {
    let at = |step| {
        move |error: nlink::Error| NamespaceError {
            step,
            source: to_io(&error),
        }
    };
    let connection = Connection::<Route>::new().map_err(at("opening netlink"))?;
    connection
        .set_link_up_by_index(LOOPBACK_INDEX)
        .await
        .map_err(at("bringing lo up"))?;
    add_addresses(&connection, !routes.is_empty())
        .await
        .map_err(at("giving lo an address"))?;
    // A preferred source, because the kernel would otherwise take the destination's address as the source: an
    // application that asks for its own address would be told the server's.
    let v4 = Ipv4Route::default_route()
        .route_type(RouteType::Local)
        .scope(RouteScope::Host)
        .prefsrc(Ipv4Addr::LOCALHOST)
        .dev_index(LOOPBACK_INDEX);
    connection
        .add_route(v4)
        .await
        .map_err(at("routing every IPv4 address to lo"))?;
    for (destination, prefix) in routes {
        let v6 = Ipv6Route::new(*destination, *prefix)
            .route_type(RouteType::Local)
            .prefsrc(Ipv6Addr::LOCALHOST)
            .dev_index(LOOPBACK_INDEX);
        match connection.add_route(v6).await {
            Ok(()) => {}
            Err(error) if error.is_already_exists() => {}
            // IPv6 is off in new namespaces: then there is none to route.
            Err(_) if !has_ipv6() => break,
            Err(error) => return Err(at("routing IPv6 addresses to lo")(error)),
        }
    }
    let installed = redirect::install(&Ruleset::namespace(port)).await;
    installed.map_err(|error| NamespaceError {
        step: "installing the redirect rules",
        source: match &error {
            RedirectError::Forbidden(cause)
            | RedirectError::Unsupported(cause)
            | RedirectError::Netlink(cause) => to_io(cause),
        },
    })
}

/// Gives `lo` an address of each family that the host uses, beside the loopback ones.
///
/// The C library asks for no names in a family of which a host has loopback addresses alone (`AI_ADDRCONFIG` of
/// getaddrinfo(3)). Nobody talks to these addresses: they are the ones set apart for having one at all.
async fn add_addresses(connection: &Connection<Route>, ipv6: bool) -> Result<(), nlink::Error> {
    let v4 = Ipv4Address::with_index(LOOPBACK_INDEX, DUMMY_V4, 32);
    connection.add_address(v4).await?;
    if ipv6 {
        let v6 = Ipv6Address::with_index(LOOPBACK_INDEX, DISCARD_V6, 128).nodad();
        // IPv6 may be off in new namespaces: then no name is to be looked up for it either.
        drop(connection.add_address(v6).await);
    }
    Ok(())
}

/// The destinations that this host reaches over IPv6, each as an address and the length of its prefix.
///
/// The application's namespace must reach no more than these. Were every IPv6 address reachable, an application on a
/// host without IPv6 would prefer IPv6 addresses, find each connection accepted (by us) and then reset, and never try
/// IPv4. IPv4 needs no such care: it is what applications fall back to.
async fn routes_v6() -> Vec<(Ipv6Addr, u8)> {
    let everything = vec![(Ipv6Addr::UNSPECIFIED, 0)];
    let Ok(connection) = Connection::<Route>::new() else {
        return everything;
    };
    let Ok(routes) = connection.get_routes().await else {
        return everything;
    };
    let mut found: Vec<(Ipv6Addr, u8)> = routes
        .iter()
        .filter(|route| route.is_ipv6())
        .filter(|route| matches!(route.route_type(), RouteType::Unicast | RouteType::Local))
        .filter_map(|route| match route.destination() {
            None if route.dst_len() == 0 => Some((Ipv6Addr::UNSPECIFIED, 0)),
            Some(IpAddr::V6(v6)) => Some((*v6, route.dst_len())),
            _ => None,
        })
        // Link-local addresses mean nothing without their interface; loopback is there already.
        .filter(|(v6, _)| !v6.is_unicast_link_local() && !v6.is_multicast() && !v6.is_loopback())
        .collect();
    found.sort_unstable();
    found.dedup();
    if found.contains(&(Ipv6Addr::UNSPECIFIED, 0)) || found.len() > ROUTES_MAX {
        return everything;
    }
    found
}

fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn bind_all(port: u16, workers: usize) -> io::Result<(Vec<TcpListener>, Vec<UdpSocket>)> {
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    if has_ipv6() {
        addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    }
    let mut outbound = Vec::new();
    let mut dns = Vec::new();
    for address in addresses {
        for _ in 0..workers.max(1) {
            outbound.push(listener(address, workers > 1)?);
        }
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        dns.push(socket);
    }
    Ok((outbound, dns))
}

fn listener(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Leaves nothing in the bounding set: no program that is started from here gains a capability, not even as root.
fn drop_bounding_set() -> io::Result<()> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // Beyond the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn to_io(error: &nlink::Error) -> io::Error {
    match error.errno() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}
