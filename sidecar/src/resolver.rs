//! Finds the addresses of names: in `/etc/hosts`, then by DNS as `/etc/resolv.conf` says, search domains included.
//!
//! Not by the C library: a static binary, such as the image's, cannot load the plug-ins by which that resolves names
//! (nsswitch.conf(5)), and each of its lookups holds a thread that nothing can end. What only plug-ins know (multicast DNS,
//! directories) has no address here. Both files are read again when they change: laptops change networks.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Why a name brought no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Nobody knows the name, or who was asked would not say.
    #[error("resolving {host}: {source}; is the name right?")]
    Failed {
        /// The name.
        host: Box<str>,
        /// What was said.
        source: io::Error,
    },
    /// Nobody said anything in time.
    #[error("resolving {host}: no answer within {after:?}; is the name server reachable?")]
    Timeout {
        /// The name.
        host: Box<str>,
        /// How long was waited.
        after: Duration,
    },
}

/// Addresses of names. One for each runtime: its sockets belong to the runtime that first used them.
#[derive(Debug)]
pub struct Resolver {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    /// Made with the first lookup: most proxies never need one.
    known: Mutex<Option<Arc<Known>>>,
    lookups: Semaphore,
    lookup_timeout: Duration,
}

/// The files' contents.
struct Known {
    stamps: [Stamp; 2],
    hosts: Hosts,
    dns: TokioResolver,
}

/// Changes when a file does. None: there is no such file.
type Stamp = Option<(SystemTime, u64)>;

impl Default for Resolver {
    fn default() -> Self {
        Self::of("/etc/hosts", "/etc/resolv.conf")
    }
}

impl Resolver {
    /// A resolver that reads these files.
    #[must_use]
    pub fn of(hosts: impl AsRef<Path>, resolv_conf: impl AsRef<Path>) -> Self {
        Self {
            hosts: hosts.as_ref().to_owned(),
            resolv_conf: resolv_conf.as_ref().to_owned(),
            known: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS_MAX),
            lookup_timeout: LOOKUP_TIMEOUT,
        }
    }

    /// The addresses of `host`, at least one; of both families by turns (RFC 8305 §4). An address is its own.
    ///
    /// # Errors
    /// [`ResolveError`] when there is none.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(literal) = host.parse() {
            return Ok(vec![literal]);
        }
        let lookup = async {
            // The semaphore is never closed; without a permit there would only be one bound less.
            let _permit = self.lookups.acquire().await.ok();
            self.known()?.addresses(host).await
        };
        let failed = |source| ResolveError::Failed {
            host: host.into(),
            source,
        };
        match timeout(self.lookup_timeout, lookup).await {
            Ok(Ok(found)) if found.is_empty() => Err(failed(no_such_name())),
            Ok(found) => found.map_err(failed),
            Err(_elapsed) => Err(ResolveError::Timeout {
                host: host.into(),
                after: self.lookup_timeout,
            }),
        }
    }

    fn known(&self) -> io::Result<Arc<Known>> {
        let stamps = [stamp(&self.hosts), stamp(&self.resolv_conf)];
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.stamps == stamps) {
            return Ok(Arc::clone(known));
        }
        let fresh = Arc::new(Known {
            stamps,
            hosts: read_hosts(&self.hosts),
            dns: read_resolv_conf(&self.resolv_conf)?,
        });
        *known = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

impl Known {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let name = Name::from_ascii(host).map_err(io::Error::other)?;
        let listed = self.listed(&name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let answer = self.dns.lookup_ip(name).await;
        let found = answer.map_err(|error| said(&error))?;
        Ok(by_turns(found.iter().collect()))
    }

    /// What `/etc/hosts` says of the name as it stands, before any search domain.
    fn listed(&self, name: &Name) -> Vec<IpAddr> {
        let of = |kind| {
            self.hosts
                .lookup_static_host(&Query::query(name.clone(), kind))
        };
        let both = [RecordType::AAAA, RecordType::A].into_iter().filter_map(of);
        let records = both.flat_map(|found| found.answers().to_vec());
        by_turns(records.filter_map(|record| record.data.ip_addr()).collect())
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// A file that is absent or no text lists nothing, as for the C library.
fn read_hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    let read = File::open(path).and_then(|file| hosts.read_hosts_conf(file));
    if let Err(error) = read {
        tracing::debug!(path = %path.display(), %error, "no names are read from it");
    }
    hosts
}

/// As resolv.conf(5) has it: the local host's server when the file names none, and each server only after the one before
/// it said nothing.
fn read_resolv_conf(path: &Path) -> io::Result<TokioResolver> {
    let text = fs::read(path).unwrap_or_default();
    let (search, servers, mut options) = match parse_resolv_conf(&text) {
        Ok((parsed, options)) => {
            // A host's own domain is for when the file has no search domains.
            let mut search = parsed.search().to_vec();
            if search.is_empty() {
                search.extend(parsed.domain().cloned());
            }
            (search, parsed.name_servers().to_vec(), options)
        }
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "no name server is read from it");
            let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            (Vec::new(), vec![local], ResolverOpts::default())
        }
    };
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.num_concurrent_reqs = 1;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = ANSWERS_MAX;
    options.positive_max_ttl = Some(ANSWER_KEPT_MAX);
    options.negative_max_ttl = Some(NEGATIVE_KEPT_MAX);
    let config = ResolverConfig::from_parts(None, search, servers);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| said(&error))
}

/// One of the first family, one of the other, and so on: a family that leads nowhere costs one try.
fn by_turns(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = found.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) = found
        .into_iter()
        .partition(|ip| ip.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        let before = turns.len();
        turns.extend(first.next());
        turns.extend(second.next());
        if turns.len() == before {
            return turns;
        }
    }
}

fn said(error: &NetError) -> io::Error {
    if error.is_no_records_found() {
        no_such_name()
    } else {
        io::Error::other(error.to_string())
    }
}

fn no_such_name() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is no such name")
}

/// Longest time for one lookup. Two tries of a name server take 5 s each by default; nobody waits for a third.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Each has a socket or two.
const LOOKUPS_MAX: usize = 16;
/// Most answers that are kept.
const ANSWERS_MAX: u64 = 1024;
/// A Service's address may change with less notice than its record's time to live.
const ANSWER_KEPT_MAX: Duration = Duration::from_secs(30);
/// A name that did not exist may at any time: a Service that is made after its clients.
const NEGATIVE_KEPT_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
