//! Looks for connections that bypass weir because another process of the pod runs as the proxy's user.
//!
//! The redirect rules leave that user alone, or the proxy would redirect itself. The injector sees clashes that a pod's
//! manifest shows; the user that stands in an image it does not see, and an exec may choose any. The kernel's table tells
//! whose each connection is, and of the proxy's own the proxy holds the descriptor.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::tcp_table::{self, Row, State};
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
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::info!(%error, "the kernel does not say whose connections are: those that bypass weir are not counted");
                return;
            }
            // Such as want of a descriptor, which passes.
            Err(error) => tracing::debug!(%error, "looking for connections that bypass weir"),
        }
    }
}

/// How many connections of the user are not this process's.
fn foreign(uid: u32) -> io::Result<u64> {
    let mut found = calls_of(uid)?;
    if found.is_empty() {
        return Ok(0);
    }
    // What is there the whole time, and on neither list of our descriptors: of ours, only one that is accepted or closed just
    // then can be missing on one.
    let ours = own_sockets()?;
    found.retain(|inode| !ours.contains(inode));
    if !found.is_empty() {
        let after = calls_of(uid)?;
        let ours = own_sockets()?;
        found.retain(|inode| after.contains(inode) && !ours.contains(inode));
    }
    Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
}

/// Inodes of the connections that the user has opened, or is about to, and that rules would redirect were it anybody else's.
fn calls_of(uid: u32) -> io::Result<HashSet<u64>> {
    let mut listening = HashSet::new();
    let mut found = Vec::new();
    for is_ipv4 in [true, false] {
        tcp_table::each(is_ipv4, |row| {
            if row.state == State::Listening {
                listening.insert(row.local.port());
            } else if let Some(inode) = call_of(&row, uid) {
                found.push((row.local.port(), inode));
            }
        })?;
    }
    // On a port where somebody listens it came in.
    let calls = found
        .into_iter()
        .filter(|(port, _)| !listening.contains(port));
    Ok(calls.map(|(_, inode)| inode).collect())
}

fn call_of(row: &Row, uid: u32) -> Option<u64> {
    let is_open = matches!(row.state, State::Established | State::Connecting);
    row.inode
        .filter(|_| is_open && row.uid == uid && !is_own(row.local.ip(), row.remote.ip()))
}

/// Whether a connection stays within the pod: such are left alone, whoever opens them.
fn is_own(local: IpAddr, remote: IpAddr) -> bool {
    remote.is_loopback() || local == remote
}

/// Inodes of this process's sockets.
fn own_sockets() -> io::Result<HashSet<u64>> {
    let mut all = HashSet::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        // Whoever was closed meanwhile has no link any more.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        let inode = target
            .to_str()
            .and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
        all.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(all)
}

/// Time between two looks. Each reads the table of all connections: some 10 ms for ten thousand of them.
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn open_connections_of_the_user_to_others_are_calls() {
        let row = |remote: &str, state, uid| Row {
            local: "10.0.0.2:40000".parse().unwrap(),
            remote: remote.parse().unwrap(),
            state,
            uid,
            inode: Some(77),
        };
        let is_call = |row: Row| call_of(&row, 19400) == Some(77);
        assert!(is_call(row("10.0.0.7:80", State::Established, 19400)));
        assert!(is_call(row("[fd00::7]:80", State::Connecting, 19400)));
        // At an end, somebody else's, to the pod itself.
        assert!(!is_call(row("10.0.0.7:80", State::Other, 19400)));
        assert!(!is_call(row("10.0.0.7:80", State::Established, 1000)));
        assert!(!is_call(row("127.0.0.1:80", State::Established, 19400)));
        assert!(!is_call(row("10.0.0.2:80", State::Established, 19400)));
    }

    #[test]
    fn this_process_holds_its_own_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = format!("/proc/self/fd/{}", listener.as_raw_fd());
        let link = fs::read_link(link).unwrap();
        let text = link.to_str().unwrap();
        let digits = text.trim_matches(|letter: char| !letter.is_ascii_digit());
        let inode = digits.parse().unwrap();
        assert!(own_sockets().unwrap().contains(&inode));
        drop(listener);
        assert!(!own_sockets().unwrap().contains(&inode));
    }
}
