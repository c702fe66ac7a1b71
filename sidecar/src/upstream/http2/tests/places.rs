//! Places on connections: none beyond the server's streams, and none leaked.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::testing::raw;
use super::*;
use crate::error::UpstreamError;

/// Sends `calls` at once, and gives them back with their outcomes.
fn send(pool: &Arc<Pool>, addr: SocketAddr, calls: usize) -> JoinSet<Result<(), UpstreamError>> {
    let mut set = JoinSet::new();
    for _ in 0..calls {
        let pool = Arc::clone(pool);
        set.spawn(async move { pool.send(addr, request(Body::Empty)).await.map(drop) });
    }
    set
}

async fn all_succeed(mut calls: JoinSet<Result<(), UpstreamError>>) {
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
}

fn at_most(streams: u32) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams);
    builder
}

/// Answers once the gate gives it a permit.
async fn gated(gate: Arc<Semaphore>, mut respond: SendResponse<Bytes>) {
    let permit = gate.acquire().await.unwrap();
    permit.forget();
    let _a_call_may_be_gone = respond.send_response(http::Response::new(()), true);
}

async fn gated_server(streams: u32) -> (Server, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let server = Server::start_with(
        at_most(streams),
        move |_: http::Request<RecvStream>, respond| gated(Arc::clone(&gate), respond),
    )
    .await;
    (server, opened)
}

/// Waits until the server has this many connections.
async fn has_connections(server: &Server, connections: usize) {
    while server.connections() < connections {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_to_a_cold_address_share_one_handshake() {
    let server = Server::start(echo).await;
    all_succeed(send(&pool(), server.addr, 50)).await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_hundred_calls_reach_a_server_that_takes_one_stream_a_connection() {
    let server = Server::start_with(at_most(1), echo).await;
    all_succeed(send(&pool(), server.addr, 100)).await;
    assert!(server.connections() <= 64);
}

#[tokio::test]
async fn a_full_connection_gets_no_call_and_another_is_opened() {
    let (server, gate) = gated_server(10).await;
    let pool = pool();
    let calls = send(&pool, server.addr, 25);
    has_connections(&server, 3).await;
    gate.add_permits(25);
    // The server refuses streams over its limit, and a refused call would fail here.
    all_succeed(calls).await;
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_call_waits_for_a_place_and_takes_the_one_that_is_given_back() {
    let (server, gate) = gated_server(1).await;
    let pool = pool();
    let held = send(&pool, server.addr, 64);
    has_connections(&server, 64).await;
    let waiting = send(&pool, server.addr, 10);
    gate.add_permits(74);
    all_succeed(held).await;
    all_succeed(waiting).await;
    assert_eq!(server.connections(), 64);
}

#[tokio::test]
async fn a_call_that_leaves_while_it_waits_takes_no_place_with_it() {
    let (server, gate) = gated_server(1).await;
    let pool = pool();
    let held = send(&pool, server.addr, 64);
    has_connections(&server, 64).await;
    let mut leaving = send(&pool, server.addr, 10);
    let staying = send(&pool, server.addr, 10);
    tokio::task::yield_now().await;
    leaving.shutdown().await;
    gate.add_permits(74);
    all_succeed(held).await;
    all_succeed(staying).await;
}

#[tokio::test]
async fn a_call_that_is_given_up_gives_its_place_back() {
    let (server, gate) = gated_server(1).await;
    let pool = pool();
    let mut held = send(&pool, server.addr, 64);
    has_connections(&server, 64).await;
    let next = send(&pool, server.addr, 1);
    held.shutdown().await;
    // The calls given up may still be answered by the server before it hears of it.
    gate.add_permits(65);
    all_succeed(next).await;
    assert_eq!(server.connections(), 64);
}

#[tokio::test]
async fn a_raised_stream_limit_serves_those_who_wait() {
    let addr = raw::server(Vec::new(), |number, mut peer| async move {
        if number > 0 {
            // A second connection never gets ready.
            return peer.closed().await;
        }
        peer.write(&raw::streams_max(1)).await;
        let first = peer.read_kind(raw::HEADERS).await.unwrap().stream;
        peer.write(&raw::streams_max(2)).await;
        let second = peer.read_kind(raw::HEADERS).await.unwrap().stream;
        for stream in [first, second] {
            peer.write(&raw::frame(raw::HEADERS, 5, stream, raw::OK))
                .await;
        }
        peer.closed().await;
    })
    .await;
    all_succeed(send(&pool(), addr, 2)).await;
}

#[tokio::test]
async fn after_a_call_was_given_up_in_silence_the_next_gets_another_connection() {
    let heads = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&heads);
    let addr = raw::server(raw::streams_max(10), move |number, mut peer| {
        let heads = Arc::clone(&heads);
        async move {
            while let Some(call) = peer.read_kind(raw::HEADERS).await {
                heads.fetch_add(1, Ordering::SeqCst);
                if number > 0 {
                    peer.write(&raw::frame(raw::HEADERS, 5, call.stream, raw::OK))
                        .await;
                }
            }
        }
    })
    .await;
    let pool = pool();
    let first = pool.send(addr, request(Body::Empty));
    let given_up = std::time::Duration::from_millis(1100);
    tokio::time::timeout(given_up, first).await.unwrap_err();
    pool.send(addr, request(Body::Empty)).await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}
