use std::net::SocketAddr;

use control_api::view::{Destination, DestinationState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::telemetry::fixture::{self, FakeProxy};

/// A running admin port; it ends with this value.
struct Running {
    address: SocketAddr,
    telemetry: Telemetry,
    readiness: Readiness,
    _stop: oneshot::Sender<()>,
}

async fn start(proxy: FakeProxy) -> Running {
    let (telemetry, readiness) = (Telemetry::default(), Readiness::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Admin::new(telemetry.clone(), Arc::new(proxy), readiness.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        serve(listener, admin, stopped).await.unwrap();
    });
    Running {
        address,
        telemetry,
        readiness,
        _stop: stop,
    }
}

impl Running {
    /// Sends a request as it is, and gives the whole answer.
    async fn send(&self, head: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{head}\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost"))
            .await
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn readiness_follows_what_it_is_told() {
    let running = start(FakeProxy::default()).await;
    let answer = running.get("/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("listeners"),
        "{answer}"
    );
    running.readiness.set(State::Ready);
    assert!(running.get("/readyz").await.starts_with("HTTP/1.1 200"));
    running.readiness.set(State::Draining);
    let answer = running.get("/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("draining"),
        "{answer}"
    );
}

#[tokio::test]
async fn liveness_fails_only_when_an_event_loop_is_stuck() {
    let running = start(FakeProxy::default()).await;
    assert!(running.get("/livez").await.starts_with("HTTP/1.1 200"));
    let worker = running.telemetry.metrics().worker(0);
    worker.ran_at(Instant::now());
    assert!(running.get("/livez").await.starts_with("HTTP/1.1 200"));
    tokio::time::pause();
    tokio::time::advance(STALL_MAX + Duration::from_secs(2)).await;
    let answer = livez(Shared(admin_of(&running))).await;
    assert_eq!(answer.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        answer.1.starts_with("worker 0 has not run for 3"),
        "{}",
        answer.1
    );
    worker.ended();
    assert_eq!(livez(Shared(admin_of(&running))).await.0, StatusCode::OK);
}

fn admin_of(running: &Running) -> Admin {
    let proxy = Arc::new(FakeProxy::default());
    Admin::new(running.telemetry.clone(), proxy, running.readiness.clone())
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics() {
    let running = start(FakeProxy::default()).await;
    let destination = running.telemetry.metrics().destination("payments:80");
    running
        .telemetry
        .record(&destination, fixture::answered_call());
    let answer = running.get("/metrics").await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(answer.contains(r#"weir_outbound_requests_total{destination="payments:80""#));
    assert!(answer.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let running = start(FakeProxy::default()).await;
    let answer = running.get("/").await;
    assert!(answer.contains("content-type: text/html; charset=utf-8"));
    assert!(answer.contains("content-security-policy: default-src 'none'"));
    let page = body(&answer);
    for outside in [
        "src=\"http",
        "href=\"http",
        "@import",
        "url(http",
        "innerHTML",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.len() < 24 * 1024, "{} bytes", page.len());
}

#[tokio::test]
async fn the_live_numbers_hold_destinations_calls_and_decisions() {
    let running = start(FakeProxy {
        revision: 4,
        destinations: vec![Destination {
            name: "payments:80".to_owned(),
            state: DestinationState::Shedding,
            ..Destination::default()
        }],
    })
    .await;
    let destination = running.telemetry.metrics().destination("payments:80");
    running.get("/live.json").await;
    running.telemetry.record(&destination, fixture::shed_call());
    let answer = running.get("/live.json").await;
    let live: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(live["status"]["policy"]["revision"], 4);
    assert_eq!(live["destinations"][0]["state"], "shedding");
    assert_eq!(live["calls"][0]["outcome"], "shed");
    assert_eq!(live["decisions"][0]["reason"], "queue_full");
    assert_eq!(live["decisions"][0]["inputs"]["limit"], 8.0);
}

#[tokio::test]
async fn paths_are_shown_to_this_machine_only() {
    let running = start(FakeProxy::default()).await;
    let destination = running.telemetry.metrics().destination("payments:80");
    running.get("/live.json").await;
    running
        .telemetry
        .record(&destination, fixture::answered_call());
    assert!(running.get("/live.json").await.contains("/v1/pay"));
    let live = live(&Shared(admin_of(&running)), Audience::Network).into_response();
    let text = axum::body::to_bytes(live.into_body(), 1 << 20)
        .await
        .unwrap();
    let live: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(live["calls"][0]["path"], "");
    assert_eq!(live["calls"][0]["method"], "GET");
}

#[tokio::test]
async fn it_is_read_only_and_knows_no_other_path() {
    let running = start(FakeProxy::default()).await;
    let head = running.send("HEAD / HTTP/1.1\r\nhost: localhost").await;
    assert!(head.starts_with("HTTP/1.1 200") && body(&head).is_empty());
    let post = running
        .send("POST /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0")
        .await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    assert!(running.get("/v1/policy").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_foreign_name_is_not_answered_on_a_loopback_listener() {
    let running = start(FakeProxy::default()).await;
    let answer = running
        .send("GET /live.json HTTP/1.1\r\nhost: evil.example")
        .await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

#[tokio::test]
async fn garbage_and_endless_heads_end_their_own_connection_only() {
    let running = start(FakeProxy::default()).await;
    assert!(
        running
            .send("\u{0}\u{1}\u{2}")
            .await
            .starts_with("HTTP/1.1 400")
    );
    let long = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: {}",
        "x".repeat(1 << 20)
    );
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    // The server may close before it has read it all.
    drop(socket.write_all(long.as_bytes()).await);
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer).await);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"));
    assert!(running.get("/livez").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn whoever_says_nothing_keeps_nobody_out() {
    let running = start(FakeProxy::default()).await;
    let mut crowd = Vec::new();
    for place in 0..100 {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        if place % 2 == 1 {
            let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
            socket.write_all(request).await.unwrap();
        }
        crowd.push(socket);
    }
    // Sooner than any of them is cut for its silence.
    let soon = Duration::from_secs(5);
    let answer = tokio::time::timeout(soon, running.get("/livez")).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    let mut rest = Vec::new();
    let gone = tokio::time::timeout(soon, crowd[0].read_to_end(&mut rest)).await;
    assert!(gone.unwrap().is_err() || rest.is_empty());
}
