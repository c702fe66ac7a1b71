//! HTTP/2 and gRPC as they are spoken: streams, trailers, resets, GOAWAY, flow control.

use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use e2e::frames::{self, Frame, kind};
use e2e::h2c::{self, Client};
use e2e::origin::{Origin, header};
use e2e::scripted::Server;
use e2e::weir::Weir;
use e2e::{procfs, wait};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_call_stays_http2_and_gains_its_ids_and_nothing_else() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let client = Client::open(weir.connect(origin.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let request = h2c::request(
        "GET",
        "shop.test:8080",
        "/echo?q=1",
        &[("x-own", "1"), ("te", "trailers")],
    );
    let reply = client.call(request, "").await.expect("an answer");
    let echo = reply.json();
    assert_eq!(echo["version"], "HTTP/2.0");
    assert_eq!(echo["target"], "http://shop.test:8080/echo?q=1");
    let names: Vec<&str> = echo["headers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|pair| pair[0].as_str())
        .filter(|name| !["x-request-id", "traceparent", "x-weir-attempt"].contains(name))
        .collect();
    assert_eq!(names, ["x-own", "te"]);
    assert_eq!(header(&echo, "x-request-id"), reply.header("x-request-id"));
    let mut answered: Vec<&str> = reply
        .head
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, ["content-length", "content-type", "x-request-id"]);
}

#[tokio::test]
async fn calls_on_one_connection_go_side_by_side() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let client = Client::open(weir.connect(origin.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let started = tokio::time::Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (client, request) = (client.clone(), h2c::get(origin.addr(), "/delay/200"));
        calls.spawn(async move { client.call(request, "").await.expect("an answer").status() });
    }
    assert!(calls.join_all().await.iter().all(|status| *status == 200));
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "50 calls of 200 ms went one by one"
    );
}

#[tokio::test]
async fn a_stream_goes_both_ways_while_it_is_open() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let client = Client::open(weir.connect(origin.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let (response, mut body) = client
        .open_stream(h2c::grpc(origin.addr(), "/mirror", &[]))
        .await
        .expect("a stream");
    let (head, mut back) = response
        .await
        .expect("a head before the body's end")
        .into_parts();
    assert_eq!(head.status, 200);
    for number in 0..10 {
        let message = h2c::grpc_message(format!("message {number}").as_bytes());
        body.send_data(message.clone(), false)
            .expect("the stream is open");
        let mut got = Vec::new();
        while got.len() < message.len() {
            let data = back
                .data()
                .await
                .expect("an echo")
                .expect("the stream is open");
            back.flow_control()
                .release_capacity(data.len())
                .expect("it was received");
            got.extend_from_slice(&data);
        }
        assert_eq!(got, message);
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", http::HeaderValue::from_static("42"));
    body.send_trailers(trailers).expect("the stream is open");
    assert!(
        back.data()
            .await
            .is_none_or(|data| data.is_ok_and(|data| data.is_empty()))
    );
    let trailers = back.trailers().await.expect("an end").expect("trailers");
    assert_eq!(
        trailers.get("x-sum").map(http::HeaderValue::as_bytes),
        Some(&b"42"[..])
    );
}

#[tokio::test]
async fn a_grpc_status_passes_in_trailers() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let client = Client::open(weir.connect(origin.addr()))
        .await
        .expect("weir speaks HTTP/2");
    for status in ["0", "5", "16"] {
        let request = h2c::grpc(
            origin.addr(),
            "/shop.Cart/Get",
            &[("x-e2e-grpc-status", status)],
        );
        let reply = client
            .call(request, h2c::grpc_message(b"hello"))
            .await
            .expect("an answer");
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.trailer("grpc-status"), status);
        assert_eq!(reply.body, h2c::grpc_message(b"hello"));
    }
}

/// A server of frames: answers the n-th request stream of a connection by `script`.
fn frame_server(
    script: impl Fn(&mut TcpStream, usize, u32) -> bool + Send + Sync + 'static,
) -> Server {
    Server::start(move |mut stream, connection| {
        let mut preface = vec![0; frames::PREFACE.len()];
        if std::io::Read::read_exact(&mut stream, &mut preface).is_err() {
            return;
        }
        drop(Frame::settings().write(&mut stream));
        while let Ok(frame) = Frame::read(&mut stream) {
            match frame.kind {
                kind::SETTINGS if frame.flags & 1 == 0 => {
                    drop(Frame::settings_ack().write(&mut stream));
                }
                kind::PING if frame.flags & 1 == 0 => {
                    drop(Frame::new(kind::PING, 1, 0, frame.payload).write(&mut stream));
                }
                kind::HEADERS if !script(&mut stream, connection, frame.stream) => return,
                _ => {}
            }
        }
    })
}

fn ok(stream: &mut TcpStream, id: u32) {
    drop(Frame::headers(id, &[(":status", "200")], true).write(stream));
}

#[tokio::test]
async fn a_reset_stream_reaches_the_client_with_its_reason() {
    // CANCEL after the head: nothing may be retried any more.
    let server = frame_server(|stream, _, id| {
        drop(Frame::headers(id, &[(":status", "200")], false).write(stream));
        drop(Frame::reset(id, h2::Reason::CANCEL.into()).write(stream));
        true
    });
    let weir = Weir::run();
    let client = Client::open(weir.connect(server.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let error = client
        .call(h2c::get(server.addr(), "/"), "")
        .await
        .expect_err("the stream was reset");
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
}

#[tokio::test]
async fn the_clients_reset_reaches_the_server() {
    let (tell, told) = std::sync::mpsc::sync_channel(16);
    let server = Server::start(move |mut stream, _| {
        let mut preface = vec![0; frames::PREFACE.len()];
        drop(std::io::Read::read_exact(&mut stream, &mut preface));
        drop(Frame::settings().write(&mut stream));
        while let Ok(frame) = Frame::read(&mut stream) {
            if frame.kind == kind::HEADERS || frame.kind == kind::RST_STREAM {
                tell.send((frame.kind, frame.code()))
                    .expect("the test listens");
            }
        }
    });
    let weir = Weir::run();
    let client = Client::open(weir.connect(server.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let (response, body) = client
        .open_stream(h2c::grpc(server.addr(), "/slow", &[]))
        .await
        .expect("a stream");
    let next = |told: std::sync::mpsc::Receiver<(u8, u32)>| async move {
        let got = tokio::task::spawn_blocking(move || {
            let got = told.recv_timeout(wait::LONG);
            (told, got)
        });
        let (told, got) = got.await.expect("no panic");
        (told, got.expect("the server was told").0)
    };
    let (told, first) = next(told).await;
    assert_eq!(first, kind::HEADERS);
    drop((response, body));
    let (_, second) = next(told).await;
    assert_eq!(second, kind::RST_STREAM);
}

#[tokio::test]
async fn a_refused_stream_is_tried_again_even_for_a_post() {
    let server = frame_server(|stream, _, id| {
        if id == 1 {
            drop(Frame::reset(id, h2::Reason::REFUSED_STREAM.into()).write(stream));
        } else {
            ok(stream, id);
        }
        true
    });
    let weir = Weir::run();
    let client = Client::open(weir.connect(server.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let reply = client
        .call(h2c::request("POST", server.addr(), "/", &[]), "body")
        .await
        .expect("an answer");
    assert_eq!(reply.status(), 200);
}

#[tokio::test]
async fn calls_above_a_goaway_are_sent_again_and_those_below_finish() {
    // The first connection answers stream 1 only after it has said goodbye to everything above it.
    let server = frame_server(|stream, connection, id| {
        if connection > 0 {
            ok(stream, id);
        } else if id > 1 {
            drop(Frame::goaway(1, 0).write(stream));
            ok(stream, 1);
            std::thread::sleep(Duration::from_millis(300));
            return false;
        }
        true
    });
    let weir = Weir::run();
    let client = Client::open(weir.connect(server.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let (one, two) = (client.clone(), client.clone());
    let addr = server.addr();
    let first =
        tokio::spawn(async move { one.call(h2c::request("POST", addr, "/1", &[]), "a").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second =
        tokio::spawn(async move { two.call(h2c::request("POST", addr, "/2", &[]), "b").await });
    for call in [first, second] {
        assert_eq!(
            call.await.expect("no panic").expect("not lost").status(),
            200
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_502_or_unavailable() {
    let weir = Weir::run();
    let addr = e2e::scripted::closed_addr();
    let client = Client::open(weir.connect(addr))
        .await
        .expect("weir speaks HTTP/2");
    assert_eq!(
        client
            .call(h2c::get(addr, "/"), "")
            .await
            .expect("an answer")
            .status(),
        502
    );
    let reply = client
        .call(h2c::grpc(addr, "/a.B/C", &[]), h2c::grpc_message(b"x"))
        .await
        .expect("an answer");
    assert_eq!(
        (reply.status(), reply.trailer("grpc-status")),
        (200, "14"),
        "{:?}",
        reply.head
    );
}

#[tokio::test]
async fn a_slow_reader_stops_a_fast_server_and_no_other_stream() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let client = Client::open(weir.connect(origin.addr()))
        .await
        .expect("weir speaks HTTP/2");
    client
        .call(h2c::get(origin.addr(), "/"), "")
        .await
        .expect("an answer");
    let before = procfs::rss_kib(weir.id());
    let total: usize = 64 * 1024 * 1024;
    let bytes = h2c::get(origin.addr(), &format!("/bytes/{total}"));
    let response = client.start(bytes).await.expect("a stream");
    let (_, mut body) = response.await.expect("a head").into_parts();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let grown = procfs::rss_kib(weir.id()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more while nobody reads");
    let mut read = 0;
    while let Some(data) = body.data().await {
        let data: Bytes = data.expect("the body goes on");
        read += data.len();
        body.flow_control()
            .release_capacity(data.len())
            .expect("it was received");
    }
    assert_eq!(read, total);
}

#[tokio::test]
async fn more_calls_than_the_server_has_streams_for_all_get_through() {
    let origin = Origin::start(&["--streams-max", "2", "--service-ms", "5"]);
    let weir = Weir::run();
    let client = Client::open(weir.connect(origin.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let mut calls = JoinSet::new();
    for _ in 0..30 {
        let (client, request) = (client.clone(), h2c::get(origin.addr(), "/"));
        calls.spawn(async move { client.call(request, "").await.expect("an answer").status() });
    }
    assert!(calls.join_all().await.iter().all(|status| *status == 200));
}

#[tokio::test]
async fn an_unknown_frame_type_is_ignored() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let mut stream = weir.connect(origin.addr());
    let bytes = [
        frames::PREFACE,
        &Frame::settings().bytes(),
        &Frame::new(0xfa, 0, 0, *b"??").bytes(),
    ]
    .concat();
    std::io::Write::write_all(&mut stream, &bytes).expect("weir reads");
    Frame::get(1, "a").write(&mut stream).expect("weir reads");
    let answer = frames::read_until(&mut stream, kind::HEADERS).expect("an answer");
    assert_eq!(answer.stream, 1);
}
