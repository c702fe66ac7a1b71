//! Bodies in both directions, and what becomes of a stream whose body is dropped.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http_body::Body as _;
use tokio::sync::{mpsc, oneshot};

use super::super::testing::{read, source};
use super::*;
use crate::error::UpstreamError;
use crate::http::interim;

#[tokio::test]
async fn messages_go_back_and_forth_while_both_bodies_are_open() {
    let server = Server::start(
        |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            let mut stream = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                stream.send_data(data.unwrap(), false).unwrap();
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        },
    )
    .await;
    let (messages, body) = source().await;
    let pool = pool();
    let response = pool.send(server.addr, request(body)).await.unwrap();
    let mut body = response.into_body();
    for number in 0..100 {
        let message = Bytes::from(format!("message {number}"));
        messages.send(message.clone()).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message);
    }
    drop(messages);
    let trailers = body
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_trailers()
        .unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_response_that_ends_with_its_head_has_no_body() {
    let server = Server::start(echo).await;
    let pool = pool();
    let response = pool.send(server.addr, request(Body::Empty)).await.unwrap();
    assert!(response.body().is_end_stream());
}

/// Tells when the stream is reset, and why.
async fn report_reset(mut respond: SendResponse<Bytes>, reset: mpsc::Sender<Reason>) {
    let reason = poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
    reset.send(reason).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_cancels_its_stream() {
    let (arrived, mut arrivals) = mpsc::channel(1);
    let (reset, mut resets) = mpsc::channel(1);
    let server = Server::start(move |_, respond| {
        arrived.try_send(()).unwrap();
        report_reset(respond, reset.clone())
    })
    .await;
    let pool = pool();
    let call = pool.send(server.addr, request(Body::Empty));
    tokio::select! {
        _ = call => panic!("nobody answers"),
        arrival = arrivals.recv() => arrival.unwrap(),
    }
    assert_eq!(resets.recv().await, Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_response_body_that_is_dropped_cancels_its_stream_and_its_upload() {
    let (reset, mut resets) = mpsc::channel(1);
    let server = Server::start(
        move |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let reset = reset.clone();
            async move {
                let mut stream = respond
                    .send_response(http::Response::new(()), false)
                    .unwrap();
                let reason = poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
                reset.send(reason).await.unwrap();
                drop(request);
            }
        },
    )
    .await;
    let (messages, body) = source().await;
    let pool = pool();
    let response = pool.send(server.addr, request(body)).await.unwrap();
    drop(response);
    assert_eq!(resets.recv().await, Some(Reason::CANCEL));
    messages.closed().await;
}

#[tokio::test]
async fn an_upload_goes_on_after_its_response_has_ended() {
    let (received, has_received) = oneshot::channel();
    let received = Arc::new(Mutex::new(Some(received)));
    let server = Server::start(
        move |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let received = received.lock().unwrap().take().unwrap();
            async move {
                respond
                    .send_response(http::Response::new(()), true)
                    .unwrap();
                received
                    .send(read(&mut request.into_body()).await.unwrap().0)
                    .unwrap();
            }
        },
    )
    .await;
    let (messages, body) = source().await;
    let pool = pool();
    let response = pool.send(server.addr, request(body)).await.unwrap();
    assert_eq!(bytes(response).await, "");
    messages.send("late".into()).await.unwrap();
    drop(messages);
    assert_eq!(has_received.await.unwrap(), b"late");
}

#[tokio::test]
async fn an_application_whose_body_fails_cancels_the_stream() {
    let (reset, mut resets) = mpsc::channel(1);
    let server = Server::start(move |_, respond| report_reset(respond, reset.clone())).await;
    let kept = crate::http::replay::Replayable::new(
        Body::full("taken over by a newer attempt"),
        0,
        Arc::new(crate::http::replay::ByteBudget::new(0)),
    );
    let older = kept.body();
    let _newer = kept.body();
    let pool = pool();
    let error = pool.send(server.addr, request(older)).await.unwrap_err();
    assert!(matches!(error, UpstreamError::RequestBody(_)), "{error}");
    assert_eq!(resets.recv().await, Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_server() {
    let (stalled, mut stalls) = mpsc::channel(1);
    let server = Server::start(move |_, mut respond: SendResponse<Bytes>| {
        let stalled = stalled.clone();
        async move {
            let mut stream = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            let mut sent = 0;
            loop {
                stream.reserve_capacity(16 * 1024);
                let mut told = false;
                let room = poll_fn(|cx| {
                    let room = stream.poll_capacity(cx);
                    if room.is_pending() && !told {
                        told = true;
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
    let pool = pool();
    let response = pool.send(server.addr, request(Body::Empty)).await.unwrap();
    let mut body = response.into_body();
    // Nothing is read: the server comes to a stop at the stream's window.
    let mut most = 0;
    while let Ok(Some(sent)) =
        tokio::time::timeout(std::time::Duration::from_millis(200), stalls.recv()).await
    {
        most = sent;
    }
    assert!((1..=128 * 1024).contains(&most), "{most}");
    // What is read is replaced, and no more.
    let mut taken = 0;
    while taken < 10_000_000 {
        taken += body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .len();
    }
}

#[tokio::test]
async fn a_server_that_stops_reading_stops_the_application() {
    let server = Server::start(
        |request: http::Request<RecvStream>, respond: SendResponse<Bytes>| async move {
            // Holds the stream open, and gives no window back.
            std::future::pending::<()>().await;
            drop((request, respond));
        },
    )
    .await;
    let (messages, body) = source().await;
    let pool = pool();
    let call = tokio::spawn({
        let (pool, addr) = (Arc::clone(&pool), server.addr);
        async move { pool.send(addr, request(body)).await.map(drop) }
    });
    let mut taken = 0;
    let chunk = Bytes::from(vec![0; 8 * 1024]);
    while let Ok(sent) = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        messages.send(chunk.clone()),
    )
    .await
    {
        sent.unwrap();
        taken += chunk.len();
    }
    // Our window to the source, the server's window, and what each side may buffer in between.
    assert!((64 * 1024..=400 * 1024).contains(&taken), "{taken}");
    call.abort();
}

#[tokio::test]
async fn interim_responses_are_passed_before_the_answer() {
    let server = Server::start(|_, mut respond: SendResponse<Bytes>| async move {
        for status in [100, 103] {
            let interim = http::Response::builder().status(status).body(()).unwrap();
            respond.send_informational(interim).unwrap();
        }
        respond
            .send_response(http::Response::new(()), true)
            .unwrap();
    })
    .await;
    let pool = pool();
    let passed = interim::scope(async {
        let mut call = std::pin::pin!(pool.send(server.addr, request(Body::Empty)));
        let mut passed = Vec::new();
        poll_fn(|cx| {
            let answer = call.as_mut().poll(cx);
            passed.extend(interim::take().iter().map(|r| r.status().as_u16()));
            if let Poll::Ready(Err(error)) = &answer {
                panic!("{error}");
            }
            answer.map(drop)
        })
        .await;
        passed
    })
    .await;
    assert_eq!(passed, [100, 103]);
}
