//! Messages pass as they are: heads, bodies, trailers, interim responses.

use std::future::poll_fn;

use super::*;

/// What a call is given on its way: who it is, and which try.
const OURS: [&str; 3] = ["x-request-id", "traceparent", "x-weir-attempt"];

#[tokio::test]
async fn a_call_is_relayed() {
    let server = Server::start(echo).await;
    let mut client = client(server.addr).await;
    let (response, mut body) = client.post();
    body.send_data("hello".into(), true).unwrap();
    let mut response = response.await.unwrap();
    assert_eq!(read(response.body_mut()).await.unwrap().0, b"hello");
}

#[tokio::test]
async fn heads_pass_as_they_are() {
    let server = Server::start(
        |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            assert_eq!(request.uri(), "https://user@shop.example:8443/cart?item=1");
            assert_eq!(request.method(), "PROPFIND");
            let fields: Vec<_> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()))
                .filter(|(name, _)| !OURS.contains(name))
                .collect();
            assert_eq!(
                fields,
                [
                    ("te", &b"trailers"[..]),
                    ("cookie", b"a=1"),
                    ("cookie", b"b=2"),
                    ("expect", b"100-continue"),
                    ("content-length", b"0"),
                ]
            );
            let response = http::Response::builder()
                .status(299)
                .header("content-length", "5")
                .header("x-own", "kept")
                .body(())
                .unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data("hello".into(), true).unwrap();
        },
    )
    .await;
    let mut client = client(server.addr).await;
    let request = http::Request::builder()
        .method("PROPFIND")
        .uri("https://user@shop.example:8443/cart?item=1")
        .header("te", "trailers")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("expect", "100-continue")
        .header("content-length", "0")
        .body(())
        .unwrap();
    let (response, _) = client.sender.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 299);
    let fields: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !OURS.contains(name))
        .collect();
    assert_eq!(fields, ["content-length", "x-own"]);
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let server = Server::start(
        |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            let (_, trailers) = read(&mut request.into_body()).await.unwrap();
            let mut stream = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            stream.send_data("hello".into(), false).unwrap();
            stream.send_trailers(trailers.unwrap()).unwrap();
        },
    )
    .await;
    let mut client = client(server.addr).await;
    let (response, mut body) = client.post();
    body.send_data("hello".into(), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("checksum", "abc".parse().unwrap());
    body.send_trailers(trailers.clone()).unwrap();
    let mut response = response.await.unwrap();
    assert_eq!(
        read(response.body_mut()).await.unwrap(),
        (b"hello".to_vec(), Some(trailers))
    );
}

#[tokio::test]
async fn a_message_that_ends_with_its_head_still_does() {
    let addr = raw::server(raw::streams_max(10), |_, mut peer| async move {
        let head = peer.read_kind(raw::HEADERS).await.unwrap();
        assert_eq!(head.flags & raw::END_STREAM, raw::END_STREAM);
        let trailers_only = [raw::OK, &raw::field("grpc-status", "12")].concat();
        peer.write(&raw::frame(raw::HEADERS, 5, head.stream, &trailers_only))
            .await;
        peer.closed().await;
    })
    .await;
    let mut app = Raw::client(served(addr).io).await;
    app.write(&raw::frame(raw::HEADERS, 5, 1, raw::GET)).await;
    let head = app.read_kind(raw::HEADERS).await.unwrap();
    assert_eq!(head.flags & raw::END_STREAM, raw::END_STREAM);
}

#[tokio::test]
async fn both_bodies_stream_at_the_same_time() {
    let server = Server::start(
        |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            let mut stream = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                stream.send_data(data, false).unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        },
    )
    .await;
    let mut client = client(server.addr).await;
    let (response, mut body) = client.post();
    body.send_data("message".into(), false).unwrap();
    let mut response = response.await.unwrap();
    for _ in 0..100 {
        assert_eq!(
            response.body_mut().data().await.unwrap().unwrap(),
            "message"
        );
        body.send_data("message".into(), false).unwrap();
    }
    body.send_data(Bytes::new(), true).unwrap();
    assert_eq!(read(response.body_mut()).await.unwrap().0, b"message");
}

#[tokio::test]
async fn interim_responses_reach_the_application() {
    let server = Server::start(
        |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            let interim = http::Response::builder().status(100).body(()).unwrap();
            respond.send_informational(interim).unwrap();
            // Only sent because the interim response came.
            let (sent, _) = read(&mut request.into_body()).await.unwrap();
            assert_eq!(sent, b"go on");
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
        },
    )
    .await;
    let mut client = client(server.addr).await;
    let (mut response, mut body) = client.post();
    let interim = poll_fn(|cx| response.poll_informational(cx))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(interim.status(), 100);
    body.send_data("go on".into(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
}

#[tokio::test]
async fn connect_is_a_tunnel() {
    let server = Server::start(
        |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            assert_eq!(request.method(), http::Method::CONNECT);
            assert_eq!(request.uri(), "db.example:5432");
            let mut stream = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                stream.send_data(data, false).unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        },
    )
    .await;
    let mut client = client(server.addr).await;
    let request = http::Request::connect("db.example:5432").body(()).unwrap();
    let (response, mut tunnel) = client.sender.send_request(request, false).unwrap();
    let mut response = response.await.unwrap();
    tunnel.send_data("ping".into(), false).unwrap();
    assert_eq!(response.body_mut().data().await.unwrap().unwrap(), "ping");
    tunnel.send_data(Bytes::new(), true).unwrap();
    assert_eq!(read(response.body_mut()).await.unwrap().0, b"");
}

#[tokio::test]
async fn a_large_body_passes_whole() {
    let server = Server::start(echo).await;
    let mut client = client(server.addr).await;
    let (response, mut body) = client.post();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut rest = Bytes::from(large.clone());
    let sending = async {
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            let room = poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
            let part = rest.split_to(room.min(rest.len()));
            body.send_data(part, rest.is_empty()).unwrap();
        }
    };
    let receiving = async { read(response.await.unwrap().body_mut()).await.unwrap().0 };
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received == large);
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_server_behind_the_proxy() {
    let (stalled, mut stalls) = tokio::sync::mpsc::channel(1);
    let server = Server::start(move |_, mut respond: SendResponse<Bytes>| {
        let stalled = stalled.clone();
        async move {
            let mut stream = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            let mut sent = 0;
            loop {
                stream.reserve_capacity(16 * 1024);
                let room = poll_fn(|cx| {
                    let room = stream.poll_capacity(cx);
                    if room.is_pending() {
                        let _the_test_reads_the_latest = stalled.try_send(sent);
                    }
                    room
                });
                let Some(Ok(room)) = room.await else { return };
                sent += room;
                stream.send_data(vec![0; room].into(), false).unwrap();
            }
        }
    })
    .await;
    let mut client = client(server.addr).await;
    let response = client.get().await.unwrap();
    let mut most = 0;
    while let Ok(Some(sent)) = timeout(Duration::from_millis(200), stalls.recv()).await {
        most = sent;
    }
    // The application's window, what one stream may buffer, and the window to the server.
    assert!((64 * 1024..=64 * 1024 * 5).contains(&most), "{most}");
    drop(response);
}
