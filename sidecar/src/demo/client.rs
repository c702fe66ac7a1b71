//! The demo's client: offers calls at a fixed rate, whatever becomes of the earlier ones, and gives up after a while.
//!
//! It knows nothing of weir but what the environment may tell any client. An open loop is what users are: they do not wait for each other.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the client offers.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientOptions {
    /// The server.
    #[arg(long)]
    pub target: SocketAddr,
    /// Calls a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Seconds.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Send the calls through the proxy that `HTTP_PROXY` names, as common clients do.
    #[arg(long)]
    pub proxy_env: bool,
}

/// What the client saw, from its begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Seconds since the first call was due.
    pub seconds: f64,
    /// Calls made.
    pub made: u64,
    /// Answered with success within [`IN_TIME`].
    pub in_time: u64,
    /// Answered with success, but later.
    pub late: u64,
    /// Refused at once, with a reason.
    pub refused: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Given up on after [`PATIENCE`], or without a connection.
    pub unanswered: u64,
    /// Median time of the calls that were not refused, in milliseconds; a call given up on counts with its time so far.
    pub p50_ms: f64,
    /// Their 99th percentile, in milliseconds.
    pub p99_ms: f64,
}

#[derive(Debug)]
enum Ending {
    Success,
    Refused,
    Failed,
    Unanswered,
}

#[derive(Debug, Default)]
struct Observed {
    tally: Tally,
    latencies_ms: Vec<f64>,
}

/// Offers the load; says a [`Tally`] as a JSON line each second and at the end.
///
/// # Errors
/// When standard output is gone, or there is no proxy where one is asked for.
pub async fn offer(options: ClientOptions) -> io::Result<()> {
    let observed = Arc::new(Mutex::new(Observed::default()));
    let connections = Arc::new(Connections::of(&options)?);
    let begun = Instant::now();
    let gap = Duration::from_secs(1) / options.rate;
    let mut calls = JoinSet::new();
    for number in 0..options.rate * options.seconds {
        let due = begun + gap * number;
        tokio::time::sleep_until(due).await;
        calls.spawn(call(Arc::clone(&connections), Arc::clone(&observed), due));
        while calls.try_join_next().is_some() {}
        if number % options.rate == options.rate - 1 {
            report(&observed, begun)?;
        }
    }
    let offered = begun.elapsed();
    calls.join_all().await;
    // The rate is over the time in which calls were offered, not the wait for the last ones.
    observed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .tally
        .seconds = offered.as_secs_f64();
    super::say(&serde_json::to_string(&summary(&observed))?)
}

fn report(observed: &Mutex<Observed>, begun: Instant) -> io::Result<()> {
    observed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .tally
        .seconds = begun.elapsed().as_secs_f64();
    super::say(&serde_json::to_string(&summary(observed))?)
}

async fn call(connections: Arc<Connections>, observed: Arc<Mutex<Observed>>, due: Instant) {
    let ending = tokio::time::timeout_at(due + PATIENCE, connections.exchange())
        .await
        .unwrap_or(Ending::Unanswered);
    let took = due.elapsed();
    let mut observed = observed.lock().unwrap_or_else(PoisonError::into_inner);
    let Observed {
        tally,
        latencies_ms,
    } = &mut *observed;
    tally.made += 1;
    match ending {
        Ending::Success if took <= IN_TIME => tally.in_time += 1,
        Ending::Success => tally.late += 1,
        Ending::Refused => tally.refused += 1,
        Ending::Failed => tally.failed += 1,
        Ending::Unanswered => tally.unanswered += 1,
    }
    if !matches!(ending, Ending::Refused) {
        latencies_ms.push(took.as_secs_f64() * 1e3);
    }
}

fn summary(observed: &Mutex<Observed>) -> Tally {
    let mut observed = observed.lock().unwrap_or_else(PoisonError::into_inner);
    observed.latencies_ms.sort_unstable_by(f64::total_cmp);
    let at = |per_mille: usize| {
        let last = observed.latencies_ms.len().saturating_sub(1);
        observed
            .latencies_ms
            .get(last * per_mille / 1000)
            .copied()
            .unwrap_or(0.0)
    };
    Tally {
        p50_ms: at(500),
        p99_ms: at(990),
        ..observed.tally
    }
}

/// Keep-alive connections to the server; the newest idle one is used first.
#[derive(Debug)]
struct Connections {
    target: SocketAddr,
    /// The server, or the proxy before it.
    dialled: SocketAddr,
    uri: Uri,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Connections {
    fn of(options: &ClientOptions) -> io::Result<Self> {
        let target = options.target;
        // RFC 9112 §3.2.2: a proxy is asked in absolute form.
        let (dialled, uri) = match options.proxy_env.then(proxy).transpose()? {
            None => (target, PATH.to_owned()),
            Some(proxy) => (proxy, format!("http://{target}{PATH}")),
        };
        Ok(Self {
            target,
            dialled,
            uri: uri.parse().map_err(io::Error::other)?,
            idle: Mutex::default(),
        })
    }

    async fn exchange(&self) -> Ending {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .filter(SendRequest::is_ready);
        let mut connection = match idle {
            Some(connection) => connection,
            None => match self.connect().await {
                Ok(connection) => connection,
                Err(_) => return Ending::Unanswered,
            },
        };
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        if let Ok(host) = self.target.to_string().parse() {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let Ok(response) = connection.send_request(request).await else {
            return Ending::Unanswered;
        };
        let status = response.status();
        let shed = response
            .headers()
            .contains_key(control_api::well_known::header::SHED);
        if response.into_body().collect().await.is_err() {
            return Ending::Unanswered;
        }
        if connection.ready().await.is_ok() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
        }
        match status {
            StatusCode::OK => Ending::Success,
            _ if shed => Ending::Refused,
            _ => Ending::Failed,
        }
    }

    async fn connect(&self) -> io::Result<SendRequest<Empty<Bytes>>> {
        let socket = TcpStream::connect(self.dialled).await?;
        socket.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(socket))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(driver);
        Ok(connection)
    }
}

/// The address in `HTTP_PROXY`.
fn proxy() -> io::Result<SocketAddr> {
    let value = std::env::var("HTTP_PROXY").unwrap_or_default();
    let addr = value
        .strip_prefix("http://")
        .and_then(|addr| addr.parse().ok());
    addr.ok_or_else(|| io::Error::other(format!("HTTP_PROXY={value}: expected http://IP:PORT")))
}

const PATH: &str = "/work";
/// An answer later than this is of no use to the demo's user.
pub const IN_TIME: Duration = Duration::from_millis(250);
/// The client gives up on a call after this.
pub const PATIENCE: Duration = Duration::from_secs(1);
