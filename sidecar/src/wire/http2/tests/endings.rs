//! How calls end: cancelled by either side, at any point.

use std::future::poll_fn;

use h2::Reason;
use tokio::sync::mpsc;

use super::*;

/// A server that tells when a call has arrived, and why its stream was reset: before its response, or in the midst of
/// both bodies.
async fn reset_reporter(answers: bool) -> (Server, mpsc::Receiver<()>, mpsc::Receiver<Reason>) {
    let (arrived, arrivals) = mpsc::channel(8);
    let (reset, resets) = mpsc::channel(8);
    let server = Server::start(
        move |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let (arrived, reset) = (arrived.clone(), reset.clone());
            async move {
                arrived.send(()).await.unwrap();
                let reason = if answers {
                    let mut stream = respond
                        .send_response(http::Response::new(()), false)
                        .unwrap();
                    stream.send_data("begun".into(), false).unwrap();
                    poll_fn(|cx| stream.poll_reset(cx)).await
                } else {
                    poll_fn(|cx| respond.poll_reset(cx)).await
                };
                reset.send(reason.unwrap()).await.unwrap();
                drop(request);
            }
        },
    )
    .await;
    (server, arrivals, resets)
}

#[tokio::test]
async fn a_call_cancelled_before_its_answer_cancels_the_upstream_stream() {
    let (server, mut arrivals, mut resets) = reset_reporter(false).await;
    let mut client = client(server.addr).await;
    let (response, mut body) = client.post();
    body.send_data("begun".into(), false).unwrap();
    arrivals.recv().await.unwrap();
    body.send_reset(Reason::CANCEL);
    assert_eq!(resets.recv().await, Some(Reason::CANCEL));
    response.await.unwrap_err();
}

#[tokio::test]
async fn a_call_cancelled_during_its_answer_cancels_the_upstream_stream() {
    let (server, _arrivals, mut resets) = reset_reporter(true).await;
    let mut client = client(server.addr).await;
    let mut response = client.get().await.unwrap();
    response.body_mut().data().await.unwrap().unwrap();
    drop(response);
    assert_eq!(resets.recv().await, Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_call_cancelled_while_both_bodies_are_open_cancels_the_upstream_stream() {
    let (server, _arrivals, mut resets) = reset_reporter(true).await;
    let mut client = client(server.addr).await;
    let (response, mut body) = client.post();
    let mut response = response.await.unwrap();
    response.body_mut().data().await.unwrap().unwrap();
    body.send_reset(Reason::CANCEL);
    assert_eq!(resets.recv().await, Some(Reason::CANCEL));
}

#[tokio::test]
async fn an_application_that_goes_away_cancels_its_calls() {
    let (server, _arrivals, mut resets) = reset_reporter(true).await;
    let Served {
        io, task, proxy, ..
    } = served(server.addr);
    let mut app = Raw::client(io).await;
    app.write(&raw::frame(raw::HEADERS, 5, 1, raw::GET)).await;
    app.read_kind(raw::DATA).await.unwrap();
    drop(app);
    task.await.unwrap();
    assert_eq!(resets.recv().await, Some(Reason::CANCEL));
    drop(proxy);
}

#[tokio::test]
async fn a_connection_that_is_dropped_takes_its_calls_with_it() {
    let (server, _arrivals, mut resets) = reset_reporter(true).await;
    let Served {
        io, task, proxy, ..
    } = served(server.addr);
    let mut app = Raw::client(io).await;
    app.write(&raw::frame(raw::HEADERS, 5, 1, raw::GET)).await;
    app.read_kind(raw::DATA).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(resets.recv().await, Some(Reason::CANCEL));
    drop(proxy);
}

#[tokio::test]
async fn a_reset_during_the_answer_keeps_its_reason() {
    let server = Server::start(|_, mut respond: SendResponse<Bytes>| async move {
        let mut stream = respond
            .send_response(http::Response::new(()), false)
            .unwrap();
        stream.send_data("begun".into(), false).unwrap();
        tokio::task::yield_now().await;
        stream.send_reset(Reason::ENHANCE_YOUR_CALM);
    })
    .await;
    let mut client = client(server.addr).await;
    let mut response = client.get().await.unwrap();
    let error = read(response.body_mut()).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn an_answer_cut_off_with_its_connection_is_an_internal_error() {
    let addr = raw::server(raw::streams_max(10), |_, mut peer| async move {
        let stream = peer.read_kind(raw::HEADERS).await.unwrap().stream;
        peer.write(&raw::frame(raw::HEADERS, raw::END_HEADERS, stream, raw::OK))
            .await;
        peer.write(&raw::frame(raw::DATA, 0, stream, b"begun"))
            .await;
    })
    .await;
    let mut client = client(addr).await;
    // The reset may overtake what of the answer was not written yet.
    let error = match client.get().await {
        Ok(mut response) => read(response.body_mut()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_stops_the_application_without_an_error() {
    let server = Server::start(
        |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            respond
                .send_response(
                    http::Response::builder().status(413).body(()).unwrap(),
                    true,
                )
                .unwrap();
            drop(request);
        },
    )
    .await;
    let mut client = client(server.addr).await;
    let (response, mut body) = client.post();
    body.send_data("begun".into(), false).unwrap();
    assert_eq!(response.await.unwrap().status(), 413);
    let reason = poll_fn(|cx| body.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
}

#[tokio::test]
async fn a_drain_lets_calls_in_flight_finish_and_then_closes() {
    let (arrived, mut arrivals) = mpsc::channel(1);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let server = Server::start(move |_, mut respond: SendResponse<Bytes>| {
        let (gate, arrived) = (Arc::clone(&gate), arrived.clone());
        async move {
            arrived.send(()).await.unwrap();
            gate.acquire().await.unwrap().forget();
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
        }
    })
    .await;
    let Served {
        io, drain, task, ..
    } = served(server.addr);
    let mut app = Raw::client(io).await;
    app.write(&raw::frame(raw::SETTINGS, raw::ACK, 0, &[]))
        .await;
    app.write(&raw::frame(raw::HEADERS, 5, 1, raw::GET)).await;
    arrivals.recv().await.unwrap();
    drain.start();
    // The first GOAWAY stops new calls, the second names the last one, a round trip later.
    let first = app.read_kind(raw::GOAWAY).await.unwrap();
    assert_eq!(first.payload[..4], (i32::MAX).to_be_bytes());
    let ping = app.read_kind(raw::PING).await.unwrap();
    app.write(&raw::frame(raw::PING, raw::ACK, 0, &ping.payload))
        .await;
    let second = app.read_kind(raw::GOAWAY).await.unwrap();
    assert_eq!(
        (second.payload[..4].to_vec(), second.code()),
        (vec![0, 0, 0, 1], 0)
    );
    opened.add_permits(1);
    let answer = app.read_kind(raw::HEADERS).await.unwrap();
    assert_eq!(answer.payload.first(), raw::OK.first());
    app.closed().await;
    task.await.unwrap();
}

#[tokio::test]
async fn a_drain_closes_a_connection_without_calls() {
    let server = empty().await;
    let Client {
        mut sender,
        drain,
        task,
    } = client(server.addr).await;
    let request = http::Request::get("http://shop.example/").body(()).unwrap();
    sender.send_request(request, true).unwrap().0.await.unwrap();
    drain.start();
    task.await.unwrap();
}
