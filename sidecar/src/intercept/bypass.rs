//! Looks for connections that bypass weir because another process of the pod runs as the proxy's user.
//!
//! The redirect rules leave that user alone, or the proxy would redirect itself. The injector sees clashes that a pod's
//! manifest shows; the user that stands in an image it does not see, and an exec may choose any. The kernel's table of
//! connections (`/proc/net/tcp`) tells who owns each, and of the proxy's own the proxy holds the descriptor.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::telemetry::metrics::Metrics;

/// Looks again and again, and counts. Ends where the kernel does not say.
pub async fn watch(proxy_uid: u32, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_told = false;
    loop {
        ticks.tick().await;
        match foreign(proxy_uid) {
            Ok(0) => {}
            Ok(found) => {
                metrics.bypasses_seen(found);
                if !was_told {
                    tracing::warn!(
                        proxy_uid,
                        "another process of the pod runs as the proxy's user, and its connections bypass weir: which user do the application's images name (kubectl exec POD -- id)? weir.dev/proxy-uid gives the proxy another"
                    );
                }
                was_told = true;
            }
            Err(error) => {
                tracing::info!(%error, "the kernel does not say who owns connections: those that bypass weir are not counted");
                return;
            }
        }
    }
}

/// How many connections of the user are not this process's.
fn foreign(uid: u32) -> io::Result<u64> {
    let before = owned_by(uid)?;
    if before.is_empty() {
        return Ok(0);
    }
    let ours = own_sockets()?;
    // What was there before our descriptors were listed and is there afterwards, was there meanwhile: were it ours, it
    // would be on the list.
    let after = owned_by(uid)?;
    let count = before
        .intersection(&after)
        .filter(|inode| !ours.contains(inode))
        .count();
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Inodes of the connections out of this network namespace that the user has open, or is about to.
fn owned_by(uid: u32) -> io::Result<HashSet<u64>> {
    let mut found = HashSet::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(table) => found.extend(table.lines().skip(1).filter_map(|line| inode(line, uid))),
            // A kernel without IPv6 has no table of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The inode of a table's line, if it is a connection of this user that rules would have redirected were it anybody else's:
/// loopback they leave alone.
fn inode(line: &str, uid: u32) -> Option<u64> {
    let mut columns = line.split_whitespace();
    let (remote, state) = (columns.nth(2)?, columns.next()?);
    // Columns of queues, timers and retransmissions stand between.
    let (owner, inode) = (columns.nth(3)?, columns.nth(1)?);
    let is_open = [ESTABLISHED, SYN_SENT].contains(&state);
    let is_theirs = owner.parse() == Ok(uid);
    let inode = inode.parse().ok().filter(|inode| *inode != 0);
    inode.filter(|_| is_open && is_theirs && !is_loopback(remote))
}

/// Whether an address as `ADDRESS:PORT` is a loopback one. Each group of eight digits is four bytes as a number of this
/// machine's.
fn is_loopback(address: &str) -> bool {
    let digits = address.split_once(':').map_or("", |(digits, _)| digits);
    let word = |place: usize| {
        let digits = digits.get(8 * place..8 * place + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let words: Vec<[u8; 4]> = (0..4).map_while(word).collect();
    match words.as_slice() {
        [only] => IpAddr::from(Ipv4Addr::from(*only)).is_loopback(),
        [.., _, _, _, _] => {
            let bytes: Vec<u8> = words.concat();
            <[u8; 16]>::try_from(bytes).is_ok_and(|bytes| {
                IpAddr::from(Ipv6Addr::from(bytes))
                    .to_canonical()
                    .is_loopback()
            })
        }
        _ => false,
    }
}

/// Inodes of this process's sockets.
fn own_sockets() -> io::Result<HashSet<u64>> {
    let inode = |entry: io::Result<fs::DirEntry>| {
        // Whoever was closed meanwhile has no link any more.
        let target = fs::read_link(entry.ok()?.path()).ok()?;
        let target = target.to_str()?.strip_prefix("socket:[")?;
        target.strip_suffix(']')?.parse().ok()
    };
    Ok(fs::read_dir("/proc/self/fd")?.filter_map(inode).collect())
}

/// States in the kernel's table.
const ESTABLISHED: &str = "01";
const SYN_SENT: &str = "02";

/// Time between two looks. Each reads the table of all connections: some 10 ms for ten thousand of them.
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn line(remote: &str, state: &str, uid: u32, inode: u64) -> String {
        format!(
            "   1: 0100007F:8CA0 {remote} {state} 00000000:00000000 00:00000000 00000000 {uid:>5}        0 {inode} 1 0000000000000000 20 4 30 10 -1"
        )
    }

    #[test]
    fn open_connections_of_the_user_to_others_are_found() {
        let v4 = format!("{:08X}:0050", u32::from_ne_bytes([10, 0, 0, 7]));
        let of = |state, uid, number| inode(&line(&v4, state, uid, number), 19400);
        assert_eq!(of("01", 19400, 77), Some(77));
        assert_eq!(of("02", 19400, 77), Some(77));
        // A listener, an end that nobody holds any more, somebody else's.
        assert_eq!(of("0A", 19400, 77), None);
        assert_eq!(of("06", 19400, 0), None);
        assert_eq!(of("01", 1000, 77), None);
        assert_eq!(inode("", 19400), None);
        assert_eq!(inode("  sl  local_address rem_address   st", 0), None);
    }

    #[test]
    fn loopback_is_told_in_both_families() {
        let v4 = |bytes| format!("{:08X}:0050", u32::from_ne_bytes(bytes));
        assert!(is_loopback(&v4([127, 0, 0, 1])));
        assert!(!is_loopback(&v4([10, 0, 0, 7])));
        let v6 = |address: &str| {
            let octets = address.parse::<Ipv6Addr>().unwrap().octets();
            let words = octets.chunks(4).map(|word| {
                let word = u32::from_ne_bytes(word.try_into().unwrap());
                format!("{word:08X}")
            });
            format!("{}:0050", words.collect::<String>())
        };
        assert!(is_loopback(&v6("::1")) && is_loopback(&v6("::ffff:127.0.0.1")));
        assert!(!is_loopback(&v6("fd00::7")) && !is_loopback(&v6("::ffff:10.0.0.7")));
        assert!(!is_loopback("") && !is_loopback("0100:0050") && !is_loopback("xyz"));
    }

    #[test]
    fn this_process_holds_its_own_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = format!("/proc/self/fd/{}", listener.as_raw_fd());
        let link = fs::read_link(link).unwrap();
        let digits: String = link
            .to_str()
            .unwrap()
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        let inode = digits.parse().unwrap();
        assert!(own_sockets().unwrap().contains(&inode));
        drop(listener);
        assert!(!own_sockets().unwrap().contains(&inode));
    }
}
