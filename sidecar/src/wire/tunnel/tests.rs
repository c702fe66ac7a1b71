//! Half-close, resets, backpressure and counting, on loopback sockets.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// An application and a server with weir in between.
struct Wired {
    app: TcpStream,
    server: TcpStream,
    forwarding: JoinHandle<(End, u64, u64)>,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

async fn wired(first_bytes: &'static [u8]) -> Wired {
    let (app, downstream) = pair().await;
    let (upstream, server) = pair().await;
    let forwarding = tokio::spawn(async move {
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        let count = |towards, bytes| match towards {
            Towards::Upstream => drop(up.fetch_add(bytes, Relaxed)),
            Towards::Downstream => drop(down.fetch_add(bytes, Relaxed)),
        };
        let downstream = Leg::from(downstream).and_read(Bytes::from_static(first_bytes));
        let end = splice(downstream, upstream.into(), count).await;
        (end, up.into_inner(), down.into_inner())
    });
    Wired {
        app,
        server,
        forwarding,
    }
}

async fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn first_bytes_come_first_and_bytes_are_counted() {
    let mut wired = wired(b"first ").await;
    wired.app.write_all(b"second").await.unwrap();
    wired.app.shutdown().await.unwrap();
    assert_eq!(read_all(&mut wired.server).await, b"first second");
    wired.server.write_all(b"answer").await.unwrap();
    wired.server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut wired.app).await, b"answer");
    assert_eq!(wired.forwarding.await.unwrap(), (End::Closed, 12, 6));
}

#[test]
fn bytes_that_were_read_earlier_go_first() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let (socket, _other) = runtime.block_on(pair());
    let leg = Leg::from(socket)
        .and_read(Bytes::from_static(b"a"))
        .and_read(Bytes::new())
        .and_read(Bytes::from_static(b"b"));
    assert_eq!(&leg.read_ahead[..], b"ab");
}

#[tokio::test]
async fn an_application_that_has_ended_its_direction_still_hears_the_server() {
    let mut wired = wired(b"").await;
    wired.app.shutdown().await.unwrap();
    assert_eq!(read_all(&mut wired.server).await, b"");
    wired.server.write_all(b"late").await.unwrap();
    let mut late = [0; 4];
    wired.app.read_exact(&mut late).await.unwrap();
    assert_eq!(&late, b"late");
}

#[tokio::test]
async fn a_server_that_has_ended_its_direction_still_hears_the_application() {
    let mut wired = wired(b"").await;
    wired.server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut wired.app).await, b"");
    wired.app.write_all(b"late").await.unwrap();
    let mut late = [0; 4];
    wired.server.read_exact(&mut late).await.unwrap();
    assert_eq!(&late, b"late");
}

#[tokio::test]
async fn a_reset_by_the_application_resets_the_server() {
    let mut wired = wired(b"").await;
    reset(wired.app);
    let heard = wired.server.read(&mut [0]).await;
    assert_eq!(heard.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(wired.forwarding.await.unwrap().0, End::ResetByApplication);
}

#[tokio::test]
async fn a_reset_by_the_server_resets_the_application_after_the_servers_last_bytes() {
    let mut wired = wired(b"").await;
    wired.server.write_all(b"last").await.unwrap();
    let mut last = [0; 4];
    wired.app.read_exact(&mut last).await.unwrap();
    reset(wired.server);
    let heard = wired.app.read(&mut [0]).await;
    assert_eq!(heard.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(wired.forwarding.await.unwrap().0, End::ResetByServer);
}

#[tokio::test]
async fn a_reset_of_a_half_closed_connection_is_passed_on() {
    let mut wired = wired(b"").await;
    wired.app.shutdown().await.unwrap();
    assert_eq!(read_all(&mut wired.server).await, b"");
    reset(wired.server);
    let heard = wired.app.read(&mut [0]).await;
    assert_eq!(heard.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(wired.forwarding.await.unwrap().0, End::ResetByServer);
}

#[tokio::test]
async fn an_application_that_dies_half_closed_is_noticed_although_the_server_is_silent() {
    let mut wired = wired(b"").await;
    wired.app.shutdown().await.unwrap();
    assert_eq!(read_all(&mut wired.server).await, b"");
    reset(wired.app);
    assert_eq!(wired.forwarding.await.unwrap().0, End::ResetByApplication);
    // After an end, reads do not tell a reset any more; writes do.
    wired.server.ready(Interest::ERROR).await.unwrap();
    assert!(wired.server.take_error().unwrap().is_some());
}

#[tokio::test]
async fn forwarding_that_is_dropped_resets_both_sides() {
    let mut wired = wired(b"first").await;
    wired.server.read_exact(&mut [0; 5]).await.unwrap();
    wired.forwarding.abort();
    assert!(wired.forwarding.await.unwrap_err().is_cancelled());
    for leg in [&mut wired.app, &mut wired.server] {
        let heard = leg.read(&mut [0]).await;
        assert_eq!(heard.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_its_writer() {
    let mut wired = wired(b"").await;
    let chunk = vec![7; 64 * 1024];
    let mut sent = 0_usize;
    // What the kernel's buffers hold is taken; then the writer has to wait.
    let stall = Duration::from_millis(300);
    while let Ok(written) = tokio::time::timeout(stall, wired.app.write(&chunk)).await {
        sent += written.unwrap();
        assert!(sent < 256 * 1024 * 1024, "nothing stops the writer");
    }
    let reading = async {
        let mut got = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match wired.server.read(&mut buffer).await.unwrap() {
                0 => break got,
                read => got += read,
            }
        }
    };
    let (got, shut) = tokio::join!(reading, wired.app.shutdown());
    shut.unwrap();
    assert_eq!(got, sent);
}

#[tokio::test]
async fn many_bytes_pass_both_ways_at_once_unchanged() {
    let wired = wired(b"").await;
    let bytes: Vec<u8> = (0..4_000_000_u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
        .collect();
    let (mut app_in, mut app_out) = wired.app.into_split();
    let (mut server_in, mut server_out) = wired.server.into_split();
    let sent = bytes.clone();
    let up = tokio::spawn(async move { app_out.write_all(&sent).await });
    let sent = bytes.clone();
    let down = tokio::spawn(async move { server_out.write_all(&sent).await });
    let (mut at_app, mut at_server) = (Vec::new(), Vec::new());
    let (app_read, server_read) = tokio::join!(
        app_in.read_to_end(&mut at_app),
        server_in.read_to_end(&mut at_server)
    );
    app_read.unwrap();
    server_read.unwrap();
    up.await.unwrap().unwrap();
    down.await.unwrap().unwrap();
    assert!(at_app == bytes && at_server == bytes);
    assert_eq!(
        wired.forwarding.await.unwrap(),
        (End::Closed, 4_000_000, 4_000_000)
    );
}

#[tokio::test]
async fn an_idle_forwarding_is_small() {
    let (downstream, _app) = pair().await;
    let (upstream, _server) = pair().await;
    let forwarding = splice(downstream.into(), upstream.into(), |_, _| {});
    assert!(
        size_of_val(&forwarding) <= 1536,
        "{}",
        size_of_val(&forwarding)
    );
}
