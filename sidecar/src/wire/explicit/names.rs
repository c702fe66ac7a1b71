//! Resolves the names in an explicit proxy's targets, and remembers which of a name's addresses answers.
//!
//! Answers are kept for [`KEPT_FOR`]: a client sends a name with every request.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::error::UpstreamError;
use crate::intercept::original_dst;
use crate::resolver::{ResolveError, Resolver};
use crate::upstream::connect::{self, connect};

/// Why a name brought no address.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// It has none, or nobody who knows could be asked.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The name means one of our own ports.
    #[error("{0} is weir's own port; refused, for it would loop")]
    OwnPort(SocketAddr),
}

/// Addresses of names. One for each worker.
#[derive(Debug, Default)]
pub struct Names {
    kept: Mutex<HashMap<Key, Kept>>,
    resolver: Resolver,
}

type Key = (Box<str>, u16);

#[derive(Debug, Clone)]
struct Kept {
    /// Not empty; the one that answered last comes first.
    addresses: Box<[SocketAddr]>,
    /// Whether the first one is known to answer.
    proven: bool,
    until: Instant,
}

impl Names {
    /// The address of `host` to send a call to: its only one, or the one that answers.
    ///
    /// Where none of several answers it is the first one: the call itself will find out why.
    ///
    /// # Errors
    /// [`NameError`] when the name has no address.
    pub async fn locate(
        &self,
        host: &str,
        port: u16,
        settings: &connect::Settings,
    ) -> Result<SocketAddr, NameError> {
        let kept = self.addresses(host, port).await?;
        if !kept.proven
            && kept.addresses.len() > 1
            && let Ok((winner, _probe)) = first_to_connect(&kept.addresses, settings).await
        {
            self.prove(host, port, winner);
            return Ok(winner);
        }
        Ok(first(&kept))
    }

    /// A connection to `host`, to the first of its addresses that answers.
    ///
    /// # Errors
    /// [`ReachError`] when the name has no address, or none of them answers.
    pub async fn reach(
        &self,
        host: &str,
        port: u16,
        settings: &connect::Settings,
    ) -> Result<(SocketAddr, TcpStream), ReachError> {
        let kept = self.addresses(host, port).await?;
        let (winner, connection) = first_to_connect(&kept.addresses, settings).await?;
        self.prove(host, port, winner);
        Ok((winner, connection))
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Kept, NameError> {
        let key = (Box::from(host), port);
        if let Some(kept) = self.kept(&key) {
            return Ok(kept);
        }
        let ips = self.resolver.addresses(host).await?;
        let found: Vec<_> = ips
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect();
        // Here, and not when a connection is there: it must not even be opened.
        if let Some(own) = found.iter().find(|addr| original_dst::is_own(**addr)) {
            return Err(NameError::OwnPort(*own));
        }
        let kept = Kept {
            addresses: found.into(),
            proven: false,
            until: Instant::now() + KEPT_FOR,
        };
        self.keep(key, kept.clone());
        Ok(kept)
    }

    fn kept(&self, key: &Key) -> Option<Kept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(key)?;
        (Instant::now() < found.until).then(|| found.clone())
    }

    fn keep(&self, key: Key, answer: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= NAMES_MAX && !kept.contains_key(&key) {
            let now = Instant::now();
            kept.retain(|_, old| now < old.until);
            if kept.len() >= NAMES_MAX {
                // All of them are fresh: this one is looked up again next time.
                return;
            }
        }
        kept.insert(key, answer);
    }

    /// Notes that this address of a name answers.
    fn prove(&self, host: &str, port: u16, winner: SocketAddr) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.get_mut(&(Box::from(host), port)) {
            kept.addresses.sort_by_key(|address| *address != winner);
            kept.proven = true;
        }
    }
}

/// Why a name could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// It has no address.
    #[error(transparent)]
    Name(#[from] NameError),
    /// None of its addresses answers; what the last one said.
    #[error(transparent)]
    Connect(#[from] UpstreamError),
}

fn first(kept: &Kept) -> SocketAddr {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    kept.addresses.first().copied().unwrap_or(nowhere)
}

/// Connects to the addresses in their order: to the next one when the last one failed, or has not answered for a while
/// (RFC 8305 §5). The first connection wins, and the others are given up.
async fn first_to_connect(
    addresses: &[SocketAddr],
    settings: &connect::Settings,
) -> Result<(SocketAddr, TcpStream), UpstreamError> {
    let mut waiting = addresses.iter().take(ADDRESSES_MAX).copied();
    let mut attempts = JoinSet::new();
    let mut failed = None;
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(addr) = next {
            let settings = settings.clone();
            attempts.spawn(async move { (addr, connect(addr, &settings).await) });
        } else if attempts.is_empty() {
            let addr = SocketAddr::from(([0, 0, 0, 0], 0));
            let source = io::ErrorKind::AddrNotAvailable.into();
            return Err(failed.unwrap_or(UpstreamError::Connect { addr, source }));
        }
        tokio::select! {
            // A result before the clock: it may be the winner.
            biased;
            Some(ended) = attempts.join_next() => match ended {
                Ok((addr, Ok(connection))) => return Ok((addr, connection)),
                Ok((_, Err(error))) => failed = Some(error),
                Err(_panicked) => {}
            },
            () = sleep(STAGGER), if !is_last => {}
        }
    }
}

/// As long as common resolvers keep an answer that may change at any time.
const KEPT_FOR: Duration = Duration::from_secs(5);
const NAMES_MAX: usize = 1024;
/// RFC 8305 §8: recommended delay between two connection attempts.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use control_api::well_known::OUTBOUND_PORT;
    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    fn keep(names: &Names, host: &str, port: u16, addresses: &[SocketAddr]) {
        let kept = Kept {
            addresses: addresses.into(),
            proven: false,
            until: Instant::now() + KEPT_FOR,
        };
        names.keep((host.into(), port), kept);
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next_and_is_not_asked_again() {
        let (dead, refusing) = listener().await;
        drop(dead);
        let (_alive, answering) = listener().await;
        let names = Names::default();
        keep(&names, "two", 80, &[refusing, answering]);
        let settings = connect::Settings::default();
        assert_eq!(names.locate("two", 80, &settings).await.unwrap(), answering);
        let kept = names.kept(&("two".into(), 80)).unwrap();
        assert_eq!((kept.addresses[0], kept.proven), (answering, true));
    }

    #[tokio::test]
    async fn an_only_address_is_not_connected_to_before_its_call() {
        let (dead, refusing) = listener().await;
        drop(dead);
        let names = Names::default();
        keep(&names, "one", 80, &[refusing]);
        let settings = connect::Settings::default();
        assert_eq!(names.locate("one", 80, &settings).await.unwrap(), refusing);
        let reached = names.reach("one", 80, &settings).await;
        assert!(matches!(reached, Err(ReachError::Connect(_))));
    }

    #[tokio::test]
    async fn an_address_literal_is_its_own_answer() {
        let names = Names::default();
        let settings = connect::Settings::default();
        for (host, addr) in [("127.0.0.1", "127.0.0.1:81"), ("::1", "[::1]:81")] {
            let located = names.locate(host, 81, &settings).await.unwrap();
            assert_eq!(located, addr.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn our_own_ports_are_refused_before_anything_is_opened() {
        let names = Names::default();
        let settings = connect::Settings::default();
        for host in ["127.0.0.1", "localhost", "::1"] {
            let reached = names.reach(host, OUTBOUND_PORT, &settings).await;
            let refused = matches!(reached, Err(ReachError::Name(NameError::OwnPort(_))));
            assert!(refused, "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_an_error_that_names_it() {
        let names = Names::default();
        let settings = connect::Settings::default();
        // RFC 6761 §6.4: `invalid` names never exist.
        let error = names.locate("no.invalid", 80, &settings).await.unwrap_err();
        assert!(error.to_string().contains("no.invalid"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_only_for_a_while_and_only_so_many() {
        let names = Names::default();
        for port in 0..u16::try_from(NAMES_MAX).unwrap() + 10 {
            keep(
                &names,
                "a",
                port,
                &[SocketAddr::from(([127, 0, 0, 1], port))],
            );
        }
        assert_eq!(names.kept.lock().unwrap().len(), NAMES_MAX);
        assert!(names.kept(&("a".into(), 1)).is_some());
        sleep(KEPT_FOR).await;
        assert!(names.kept(&("a".into(), 1)).is_none());
        keep(&names, "b", 1, &[SocketAddr::from(([127, 0, 0, 1], 1))]);
        assert_eq!(names.kept.lock().unwrap().len(), 1);
    }
}
