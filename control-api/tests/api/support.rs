//! A running server, and plain HTTP to talk to it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use control_api::client::Client;
use control_api::server::{Counts, Introspect, Options, Server, UnknownLogLevel};
use control_api::store::{Sources, Store};
use control_api::view::{
    Connection, Decision, DecisionFilter, Destination, DestinationState, Latency, Listener, Status,
    Timestamp,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A proxy that does nothing, and says so.
pub(crate) struct Idle {
    store: Arc<Store>,
    pub log_level: Mutex<String>,
}

impl Introspect for Idle {
    fn status(&self) -> Status {
        Status {
            version: "9.9.9".to_owned(),
            pid: std::process::id(),
            uptime_ms: 61_000,
            workers: 1,
            policy: self.store.status(),
            calls: 12,
            listeners: vec![Listener {
                name: "outbound".to_owned(),
                address: "127.0.0.1:19401".to_owned(),
            }],
            ..Status::default()
        }
    }

    fn destinations(&self) -> Vec<Destination> {
        vec![Destination {
            name: "payments:80".to_owned(),
            state: DestinationState::Shedding,
            limit: 8,
            in_flight: 8,
            queue_length: 3,
            latency: Latency {
                p50_ms: Some(10.0),
                p99_ms: None,
            },
            sheds: [("queue-full".to_owned(), 7)].into(),
            last_error: Some("reset \u{1b}[31m".to_owned()),
            ..Destination::default()
        }]
    }

    fn decisions(&self, filter: &DecisionFilter) -> Vec<Decision> {
        let decision = |sequence| Decision {
            sequence,
            at: Timestamp::from_unix_millis(1_000),
            what: "shed".to_owned(),
            reason: "queue-full".to_owned(),
            destination: if sequence % 2 == 0 {
                "even:80"
            } else {
                "odd & more:80"
            }
            .to_owned(),
            trace_id: Some(format!("trace-{sequence}")),
            inputs: [("queueLength".to_owned(), Value::from(sequence))].into(),
            ..Decision::default()
        };
        let mut found: Vec<Decision> = (1..=200)
            .map(decision)
            .filter(|decision| filter.accepts(decision))
            .collect();
        let surplus = found
            .len()
            .saturating_sub(filter.limit.unwrap_or(usize::MAX));
        found.drain(..surplus);
        found
    }

    fn connections(&self) -> Vec<Connection> {
        vec![Connection {
            id: 1,
            peer: "127.0.0.1:5".to_owned(),
            destination: "10.0.0.7:80".to_owned(),
            protocol: "h2".to_owned(),
            ..Connection::default()
        }]
    }

    fn set_log_level(&self, level: &str) -> Result<(), UnknownLogLevel> {
        if level.contains('!') {
            return Err(UnknownLogLevel(format!("{level} is no filter")));
        }
        level.clone_into(&mut self.log_level.lock().unwrap());
        Ok(())
    }
}

/// A server in a directory of its own. Dropped, it stops.
pub(crate) struct Running {
    pub store: Arc<Store>,
    pub proxy: Arc<Idle>,
    pub socket: PathBuf,
    pub counts: Arc<Counts>,
    pub tcp_port: u16,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    pub dir: TempDir,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts a server with other options.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let (store, _) = Store::open(Sources::default());
        let proxy = Arc::new(Idle {
            store: Arc::clone(&store),
            log_level: Mutex::default(),
        });
        let mut options = Options::at(socket.clone());
        change(&mut options);
        let counts = Arc::clone(&options.counts);
        let server = Server::bind(options, Arc::clone(&store), Arc::clone(&proxy) as _).unwrap();
        let (stop, stopped) = oneshot::channel();
        Self {
            store,
            proxy,
            socket,
            counts,
            tcp_port: server.tcp_address().map_or(0, |address| address.port()),
            stop: Some(stop),
            served: tokio::spawn(server.serve(async { drop(stopped.await) })),
            dir,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::at(&self.socket)
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(mut self) -> TempDir {
        drop(self.stop.take());
        self.served.await.unwrap();
        self.dir
    }

    /// Sends a request, with the headers and the body after its request line.
    pub(crate) async fn http(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        let socket = self.socket.clone();
        let request = request(line, headers, body);
        let text = tokio::task::spawn_blocking(move || exchange(&socket, request.as_bytes()));
        Answer::of(&text.await.unwrap())
    }
}

/// The text of a request on a connection of its own.
pub(crate) fn request(line: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers
        .iter()
        .map(|header| format!("{header}\r\n"))
        .collect();
    format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Sends bytes as they are, and reads to the end.
pub(crate) fn exchange(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // A server that refuses early may close before everything is written.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

/// A response, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub(crate) fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or(0),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The problem's type; checks that the answer is a problem at all.
    pub(crate) fn problem(&self) -> String {
        assert!(
            self.head.contains("content-type: application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        let kind = problem["type"].as_str().unwrap();
        kind.strip_prefix("urn:weir:problem:").unwrap().to_owned()
    }

    pub(crate) fn has_header(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }
}

/// A policy with this limit.
pub(crate) fn policy(limit: u32) -> Value {
    serde_json::json!({"version": "weir/v1", "defaults": {"admission": {"limit": limit}}})
}
