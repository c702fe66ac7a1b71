//! Half-closes, clients that go away, servers that do, rest, and the drain.

use bytes::Bytes;

use super::*;
use crate::intercept::detect::prefixed::Prefixed;

#[tokio::test]
async fn a_client_that_only_closes_its_sending_side_gets_its_response() {
    // Whenever it does so, and however long the server takes.
    for delay in [Duration::ZERO, Duration::from_millis(300)] {
        let mut rig = rig().await;
        say(&mut rig.app, GET).await;
        let mut server = rig.accept().await;
        hear(&mut server, GET_SENT).await;
        tokio::time::sleep(delay).await;
        rig.app.shutdown().await.unwrap();
        tokio::time::sleep(delay).await;
        say(&mut server, OK).await;
        hear_last(&mut rig.app, OK_PASSED).await;
        within(rig.served).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_goes_while_it_waits_half_closed_cancels_its_call() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    rig.app.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(rig.app);
    hear_last(&mut server, "").await;
    within(rig.served).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_half_closed_amid_a_silent_response_cancels_the_rest() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    rig.app.shutdown().await.unwrap();
    let beginning = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe";
    say(&mut server, beginning).await;
    hear(&mut rig.app, beginning).await;
    drop(rig.app);
    hear_last(&mut server, "").await;
    within(rig.served).await.unwrap();
}

#[tokio::test]
async fn a_half_close_that_came_with_the_request_is_no_reason_to_give_up() {
    let (mut app, ours) = pair().await;
    app.shutdown().await.unwrap();
    within(ours.readable()).await.unwrap();
    // As detection leaves it: the request was read, and the end of the stream stands right behind it.
    let ours = Prefixed::new(Bytes::from_static(GET.as_bytes()), ours);
    let mut rig = rig_of(Settings::default(), app, ours).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(&mut server, OK).await;
    hear_last(&mut rig.app, OK_PASSED).await;
    within(rig.served).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_call() {
    for is_reset in [false, true] {
        let mut rig = rig().await;
        say(&mut rig.app, GET).await;
        let mut server = rig.accept().await;
        hear(&mut server, GET_SENT).await;
        if is_reset {
            reset(rig.app);
        } else {
            drop(rig.app);
        }
        hear_last(&mut server, "").await;
        within(rig.served).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_goes_away_amid_the_response_cancels_the_rest() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(
        &mut server,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe",
    )
    .await;
    hear(
        &mut rig.app,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe",
    )
    .await;
    drop(rig.app);
    hear_last(&mut server, "").await;
}

#[tokio::test]
async fn a_client_that_goes_away_amid_its_request_ends_it_unfinished() {
    let mut rig = rig().await;
    let head = "PUT / HTTP/1.1\r\nhost: shop\r\ncontent-length: 5\r\n\r\nhe";
    say(&mut rig.app, head).await;
    let mut server = rig.accept().await;
    hear(&mut server, head).await;
    drop(rig.app);
    hear_last(&mut server, "").await;
}

#[tokio::test]
async fn a_server_that_resets_before_it_answers_is_a_bad_gateway() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    reset(server);
    hear(
        &mut rig.app,
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\n\r\nreset",
    )
    .await;
    // The application's connection goes on.
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
}

#[tokio::test]
async fn a_response_that_comes_before_the_request_is_through_is_passed_on() {
    let mut rig = rig().await;
    say(
        &mut rig.app,
        "PUT / HTTP/1.1\r\nhost: shop\r\ncontent-length: 1000000\r\n\r\nbegin",
    )
    .await;
    let mut server = rig.accept().await;
    hear(
        &mut server,
        "PUT / HTTP/1.1\r\nhost: shop\r\ncontent-length: 1000000\r\n\r\nbegin",
    )
    .await;
    say(
        &mut server,
        "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno",
    )
    .await;
    hear(
        &mut rig.app,
        "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n",
    )
    .await;
    // Nothing more is sent to a server that has answered; its connection ends.
    hear_last(&mut server, "").await;
}

#[tokio::test]
async fn an_early_response_survives_the_reset_behind_it() {
    let mut rig = rig().await;
    say(
        &mut rig.app,
        "PUT / HTTP/1.1\r\nhost: shop\r\ncontent-length: 10000000\r\n\r\n",
    )
    .await;
    let mut server = rig.accept().await;
    say(
        &mut server,
        "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno",
    )
    .await;
    // Closing with unread bytes resets the connection.
    drop(server);
    let (mut read, mut write) = rig.app.split();
    let sends = async {
        let chunk = vec![b'x'; 10_000];
        for _ in 0..1000 {
            if write.write_all(&chunk).await.is_err() {
                break;
            }
        }
    };
    let mut answer = vec![0; 34];
    let (_sent, answered) =
        within(async { tokio::join!(sends, read.read_exact(&mut answer)) }).await;
    answered.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "HTTP/1.1 413 Content Too Large\r\nco"
    );
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_lets_calls_finish() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    rig.drain.start();
    tokio::task::yield_now().await;
    say(&mut server, OK).await;
    hear_last(
        &mut rig.app,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
    )
    .await;
    within(rig.served).await.unwrap();

    let mut rig = super::rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(&mut server, OK).await;
    hear(&mut rig.app, OK_PASSED).await;
    rig.drain.start();
    hear_last(&mut rig.app, "").await;
    within(rig.served).await.unwrap();
}

#[tokio::test]
async fn a_pipelined_request_behind_a_drained_call_is_not_begun() {
    let mut rig = rig().await;
    say(&mut rig.app, &GET.repeat(2)).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    rig.drain.start();
    tokio::task::yield_now().await;
    say(&mut server, OK).await;
    hear_last(
        &mut rig.app,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
    )
    .await;
}

#[tokio::test]
async fn a_server_nobody_listens_for_is_a_bad_gateway() {
    let mut rig = rig().await;
    let Rig { listener, .. } = rig;
    drop(listener);
    say(&mut rig.app, GET).await;
    hear(
        &mut rig.app,
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 15\r\n\r\nconnect_failure",
    )
    .await;
}

/// One whole call, and then a pause in which the connection comes to rest.
async fn rested() -> Rig {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(&mut server, OK).await;
    hear(&mut rig.app, OK_PASSED).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig
}

#[tokio::test]
async fn a_connection_that_rests_comes_back_for_the_next_call() {
    let mut rig = rested().await;
    // The server's connection is of no interest here: a new one, where the old one is closed.
    say(&mut rig.app, "GET / HTTP/1.1\r\nho").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    say(&mut rig.app, &format!("st: shop\r\n\r\n{GET}")).await;
    let mut server = rig.accept().await;
    for _ in 0..2 {
        hear(&mut server, GET_SENT).await;
        say(&mut server, OK).await;
        hear(&mut rig.app, OK_PASSED).await;
    }
}

#[tokio::test]
async fn a_connection_that_rests_is_still_guarded() {
    let mut rig = rested().await;
    say(&mut rig.app, "GET / HTTP/1.1\nHost: a\n\n").await;
    let mut answer = String::new();
    within(rig.app.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn a_connection_that_rests_ends_with_its_client_and_with_the_drain() {
    let rig = rested().await;
    drop(rig.app);
    within(rig.served).await.unwrap();

    let mut rig = rested().await;
    rig.drain.start();
    hear_last(&mut rig.app, "").await;
    within(rig.served).await.unwrap();
}
