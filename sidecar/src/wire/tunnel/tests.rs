//! Half-close, resets, backpressure and counting, on loopback sockets.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// Two connected sockets.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

struct Tunnel {
    client: TcpStream,
    server: TcpStream,
    traffic: Arc<Traffic>,
    task: JoinHandle<io::Result<()>>,
}

async fn tunnel(early_bytes: &'static str) -> Tunnel {
    let (client, down) = pair().await;
    let (server, up) = pair().await;
    let traffic = Arc::new(Traffic::default());
    let counted = Arc::clone(&traffic);
    let task = tokio::spawn(async move {
        let down = Leg {
            io: down,
            read_ahead: Bytes::from_static(early_bytes.as_bytes()),
        };
        splice(down, Leg::new(up), &counted).await
    });
    Tunnel {
        client,
        server,
        traffic,
        task,
    }
}

#[tokio::test]
async fn a_half_close_ends_one_direction_only() {
    let mut tunnel = tunnel("").await;
    tunnel.client.write_all(b"question").await.unwrap();
    tunnel.client.shutdown().await.unwrap();
    let mut question = String::new();
    tunnel.server.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");

    tunnel.server.write_all(b"answer").await.unwrap();
    tunnel.server.shutdown().await.unwrap();
    let mut answer = String::new();
    tunnel.client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");

    tunnel.task.await.unwrap().unwrap();
    assert_eq!(tunnel.traffic.to_upstream.load(Ordering::Relaxed), 8);
    assert_eq!(tunnel.traffic.to_downstream.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn bytes_read_ahead_go_first() {
    let mut tunnel = tunnel("early ").await;
    tunnel.client.write_all(b"late").await.unwrap();
    tunnel.client.shutdown().await.unwrap();
    let mut text = String::new();
    tunnel.server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "early late");
}

#[tokio::test]
async fn a_reset_of_the_server_is_a_reset_for_the_client() {
    let mut tunnel = tunnel("").await;
    tunnel.server.write_all(b"x").await.unwrap();
    assert_eq!(tunnel.client.read_u8().await.unwrap(), b'x');
    tunnel.server.abort();
    drop(tunnel.server);
    let error = tunnel.client.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    tunnel.task.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_reset_of_the_client_is_a_reset_for_the_server() {
    let mut tunnel = tunnel("").await;
    tunnel.client.abort();
    drop(tunnel.client);
    let error = tunnel.server.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    tunnel.task.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn large_transfers_arrive_whole_in_both_directions_at_once() {
    let tunnel = tunnel("").await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let (mut client_read, mut client_write) = tunnel.client.into_split();
    let (mut server_read, mut server_write) = tunnel.server.into_split();
    let (there, back) = (bytes.clone(), bytes.clone());
    let (mut got_there, mut got_back) = (Vec::new(), Vec::new());
    tokio::join!(
        async {
            client_write.write_all(&there).await.unwrap();
            client_write.shutdown().await.unwrap();
        },
        async {
            server_write.write_all(&back).await.unwrap();
            server_write.shutdown().await.unwrap();
        },
        async {
            server_read.read_to_end(&mut got_there).await.unwrap();
        },
        async {
            client_read.read_to_end(&mut got_back).await.unwrap();
        },
    );
    assert!(got_there == bytes && got_back == bytes);
    tunnel.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer() {
    let (mut client, down) = tokio::io::duplex(1024);
    let (_server_that_never_reads, up) = tokio::io::duplex(1024);
    let traffic = Traffic::default();
    let carry = splice(Leg::new(down), Leg::new(up), &traffic);
    tokio::pin!(carry);
    let mut pushed = 0;
    let bounded = async {
        let chunk = [0; 1024];
        loop {
            pushed += client.write(&chunk).await.unwrap();
        }
    };
    let window = Duration::from_millis(50);
    tokio::time::pause();
    let _never_ends = tokio::time::timeout(window, async { tokio::join!(carry, bounded) }).await;
    assert!(
        pushed <= 1024 * 3 + SCRATCH_BYTES,
        "{pushed} bytes were taken"
    );
}
