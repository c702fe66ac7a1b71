use std::io::ErrorKind;
use std::time::Duration;

use control_api::document::Document;
use control_api::store::{Expected, Sources, Written};
use control_api::view::Origin;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::drain;
use crate::intercept::detect::tests::client_hello;
use crate::telemetry::metrics::{Direction, Metrics, Side};
use crate::upstream::Upstream;

pub(crate) fn inlet() -> Inlet {
    let metrics = Arc::<Metrics>::default();
    let connect = connect::Settings {
        metrics: Arc::clone(&metrics),
        ..connect::Settings::default()
    };
    // A drain that never starts: the other end is gone.
    let (_drain, draining) = drain::channel();
    Inlet {
        proxy: crate::proxy::fixture::proxy(Upstream::new(&connect)),
        connect,
        patience: Patience::default(),
        draining,
        policies: Store::open(Sources::default()).0,
        opaque_ports: Arc::default(),
        remembered: Arc::default(),
        connections: Arc::new(Connections::new(100, Arc::default(), metrics)),
        ends: Ends::default(),
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// An application's connection that was going to `destination`.
async fn dial(destination: SocketAddr, inlet: &Inlet) -> (TcpStream, JoinHandle<()>) {
    let (redirected, addr) = listener().await;
    let app = TcpStream::connect(addr).await.unwrap();
    let (downstream, peer) = redirected.accept().await.unwrap();
    let arrival = Arrival {
        original_destination: destination,
        peer,
    };
    let dialled = Dialled {
        downstream: Prefixed::new(Bytes::new(), downstream),
        client: inlet.ends.of(peer, addr),
        arrival,
        name: None,
        upstream: None,
    };
    (app, tokio::spawn(serve_dialled(dialled, inlet.clone())))
}

/// How long after the server's greeting the application has it.
async fn greeting_delay(server: &TcpListener, inlet: &Inlet) -> Duration {
    let destination = server.local_addr().unwrap();
    let (mut app, _serving) = dial(destination, inlet).await;
    let (mut greeter, _) = server.accept().await.unwrap();
    greeter.write_all(b"220 hello\r\n").await.unwrap();
    let sent = Instant::now();
    app.read_exact(&mut [0; 11]).await.unwrap();
    sent.elapsed()
}

#[tokio::test]
async fn a_servers_greeting_arrives_within_50_ms_and_is_not_waited_for_again() {
    let inlet = inlet();
    let (server, destination) = listener().await;
    // The machine may be busy with something else: the best of a few counts.
    let mut first = Duration::MAX;
    for _ in 0..5 {
        inlet.remembered.forget(destination);
        first = first.min(greeting_delay(&server, &inlet).await);
    }
    assert!(first < Duration::from_millis(50), "{first:?}");

    let known = inlet.remembered.habit(destination, Instant::now());
    assert_eq!(known, Some(Habit::ServerFirst));
    let endless = Inlet {
        patience: Patience {
            head_start: Duration::from_secs(1000),
            ..Patience::default()
        },
        ..inlet
    };
    greeting_delay(&server, &endless).await;
}

#[tokio::test]
async fn an_opaque_port_is_connected_to_without_a_look() {
    let (server, destination) = listener().await;
    let mut inlet = inlet();
    let policy = format!(
        r#"{{"version":"weir/v1","opaquePorts":[{}]}}"#,
        destination.port()
    );
    let document = Document::parse(&policy).unwrap();
    let written = Written::now(Origin::Api);
    inlet
        .policies
        .apply(document, written, Expected::Anything)
        .unwrap();
    inlet.patience.head_start = Duration::from_secs(1000);
    let (mut app, _serving) = dial(destination, &inlet).await;
    let (mut peer, _) = server.accept().await.unwrap();
    app.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut seen = [0; 16];
    peer.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"GET / HTTP/1.1\r\n");
}

#[tokio::test]
async fn an_opaque_port_of_the_pod_needs_no_policy() {
    let (server, destination) = listener().await;
    let mut inlet = inlet();
    inlet.opaque_ports = [destination.port()].into();
    inlet.patience.head_start = Duration::from_secs(1000);
    let (_app, _serving) = dial(destination, &inlet).await;
    // Without a byte from the application.
    server.accept().await.unwrap();
}

#[tokio::test]
async fn an_unreachable_server_is_a_reset_to_an_application_that_speaks_no_http() {
    let (server, destination) = listener().await;
    drop(server);
    let inlet = inlet();
    let (mut app, serving) = dial(destination, &inlet).await;
    app.write_all(b"EHLO me\r\n").await.unwrap();
    let heard = app.read(&mut [0]).await;
    assert_eq!(heard.unwrap_err().kind(), ErrorKind::ConnectionReset);
    serving.await.unwrap();
    assert_eq!(inlet.connections.open(), 0);
}

#[tokio::test]
async fn a_tls_connection_is_listed_with_its_servers_name_and_its_bytes() {
    let (server, destination) = listener().await;
    let inlet = inlet();
    let hello = client_hello(Some("shop.example"), 16_384);
    let (mut app, _serving) = dial(destination, &inlet).await;
    app.write_all(&hello).await.unwrap();
    let (mut peer, _) = server.accept().await.unwrap();
    let mut seen = vec![0; hello.len()];
    peer.read_exact(&mut seen).await.unwrap();
    peer.write_all(b"reply").await.unwrap();
    app.read_exact(&mut [0; 5]).await.unwrap();
    let listed = inlet.connections.snapshot(10).pop().unwrap();
    assert_eq!(
        (listed.speaks(), listed.name(), listed.destination()),
        (Speaks::Tls, Some("shop.example"), destination)
    );
    assert_eq!(listed.bytes_received(), u64::try_from(hello.len()).unwrap());
    assert_eq!(listed.bytes_sent(), 5);
    assert_eq!(seen, hello);
}

/// A message's head, read byte by byte so that nothing behind it is.
async fn head(socket: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    head
}

#[tokio::test]
async fn bytes_of_a_call_and_of_the_tunnel_that_it_becomes_are_counted_on_both_sides() {
    let inlet = inlet();
    let metrics = inlet.connections.metrics();
    let (server, destination) = listener().await;
    let (mut app, serving) = dial(destination, &inlet).await;
    let request =
        b"GET /chat HTTP/1.1\r\nhost: shop\r\nupgrade: chat\r\nconnection: upgrade\r\n\r\n";
    app.write_all(request).await.unwrap();
    let (mut peer, _) = server.accept().await.unwrap();
    let asked = head(&mut peer).await.len();
    assert_eq!(metrics.open(Side::Upstream, Speaks::Http1), 1);
    let answer = b"HTTP/1.1 101 Go\r\nupgrade: chat\r\nconnection: upgrade\r\n\r\nfirst";
    peer.write_all(answer).await.unwrap();
    let answered = head(&mut app).await.len();
    app.read_exact(&mut [0; 5]).await.unwrap();
    app.write_all(b"second").await.unwrap();
    peer.read_exact(&mut [0; 6]).await.unwrap();
    assert_eq!(metrics.open(Side::Upstream, Speaks::Tunnel), 1);
    let expected = [
        (Side::Downstream, Direction::Received, request.len() + 6),
        (Side::Upstream, Direction::Sent, asked + 6),
        (Side::Upstream, Direction::Received, answer.len()),
        (Side::Downstream, Direction::Sent, answered + 5),
    ];
    for (side, direction, bytes) in expected {
        let counted = metrics.bytes_of(side, direction);
        assert_eq!(
            usize::try_from(counted),
            Ok(bytes),
            "{side:?} {direction:?}"
        );
    }
    drop((app, peer));
    serving.await.unwrap();
    for speaks in [Speaks::Http1, Speaks::Tunnel] {
        assert_eq!(metrics.open(Side::Upstream, speaks), 0);
    }
}

#[tokio::test]
async fn a_beginning_that_stops_is_waited_for_only_once() {
    let mut inlet = inlet();
    inlet.patience.unfinished = Duration::from_millis(30);
    let (server, destination) = listener().await;
    for unfinished_next in [Duration::from_secs(1000), Duration::ZERO] {
        let (mut app, _serving) = dial(destination, &inlet).await;
        app.write_all(b"HELLO").await.unwrap();
        let mut seen = [0; 5];
        let (mut peer, _) = server.accept().await.unwrap();
        peer.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"HELLO");
        inlet.patience.unfinished = unfinished_next;
    }
}

#[tokio::test]
async fn an_unreachable_server_is_a_502_to_an_application_that_speaks_http() {
    let (server, destination) = listener().await;
    drop(server);
    let inlet = inlet();
    let (mut app, _serving) = dial(destination, &inlet).await;
    app.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        .await
        .unwrap();
    let mut status = [0; 12];
    app.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 502");
    let listed = inlet.connections.snapshot(10).pop().unwrap();
    assert_eq!((listed.speaks(), listed.calls()), (Speaks::Http1, 1));
}

#[tokio::test]
async fn an_application_that_spoke_late_is_not_raced_against_again() {
    let inlet = inlet();
    let (server, destination) = listener().await;
    let request = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    let (mut app, _serving) = dial(destination, &inlet).await;
    let (mut spare, _) = server.accept().await.unwrap();
    app.write_all(request).await.unwrap();
    // It is closed without a byte; the call has a connection of its own.
    assert_eq!(spare.read(&mut [0]).await.unwrap(), 0);
    let known = inlet.remembered.habit(destination, Instant::now());
    assert_eq!(known, Some(Habit::LateHttp));
}

#[tokio::test]
async fn a_forwarded_connection_keeps_only_a_small_task() {
    let destination = SocketAddr::from(([127, 0, 0, 1], 1));
    let (near, _far) = {
        let (listener, addr) = listener().await;
        let near = TcpStream::connect(addr).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    };
    let dialled = Dialled {
        downstream: Prefixed::new(Bytes::new(), near),
        client: Ends::default().of(destination, destination),
        arrival: Arrival {
            original_destination: destination,
            peer: destination,
        },
        name: None,
        upstream: None,
    };
    let serving = serve_dialled(dialled, inlet());
    assert!(size_of_val(&serving) <= 2560, "{}", size_of_val(&serving));
}
