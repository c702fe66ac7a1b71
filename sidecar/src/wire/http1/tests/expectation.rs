//! `Expect: 100-continue`, and other interim responses.

use super::*;

const EXPECTING: &str =
    "PUT / HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
const EXPECTING_SENT: &str =
    "PUT / HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[tokio::test]
async fn the_application_is_told_to_go_on_when_the_server_says_so() {
    let mut rig = rig().await;
    say(&mut rig.app, EXPECTING).await;
    let mut server = rig.accept().await;
    hear(&mut server, EXPECTING_SENT).await;
    let early = tokio::time::timeout(Duration::from_millis(30), rig.app.readable()).await;
    assert!(early.is_err(), "weir promised what only the server can");
    say(&mut server, CONTINUE).await;
    hear(&mut rig.app, CONTINUE).await;
    say(&mut rig.app, "body").await;
    hear(&mut server, "body").await;
    say(&mut server, OK).await;
    hear(&mut rig.app, OK_PASSED).await;
    // Both connections go on.
    say(&mut rig.app, GET).await;
    hear(&mut server, GET_SENT).await;
}

#[tokio::test]
async fn a_final_response_takes_the_place_of_the_permission() {
    let mut rig = rig().await;
    say(&mut rig.app, EXPECTING).await;
    let mut server = rig.accept().await;
    hear(&mut server, EXPECTING_SENT).await;
    say(
        &mut server,
        "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\n",
    )
    .await;
    hear(
        &mut rig.app,
        "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\nconnection: close\r\n\r\n",
    )
    .await;
    say(&mut server, "no").await;
    // The body was never sent, so neither connection is of further use.
    hear_last(&mut server, "").await;
    rig.app.shutdown().await.unwrap();
    hear_last(&mut rig.app, "no").await;
}

#[tokio::test]
async fn a_success_before_the_body_is_a_permission_too() {
    let mut rig = rig().await;
    say(&mut rig.app, EXPECTING).await;
    let mut server = rig.accept().await;
    hear(&mut server, EXPECTING_SENT).await;
    say(&mut server, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
    hear(&mut rig.app, CONTINUE).await;
    hear(&mut rig.app, head).await;
    say(&mut rig.app, "body").await;
    hear(&mut server, "body").await;
    say(&mut server, "body").await;
    hear(&mut rig.app, "body").await;
}

#[tokio::test]
async fn a_server_that_does_not_know_expectations_gets_the_body_after_a_while() {
    let mut rig = rig().await;
    say(&mut rig.app, EXPECTING).await;
    let mut server = rig.accept().await;
    hear(&mut server, EXPECTING_SENT).await;
    hear(&mut rig.app, CONTINUE).await;
    say(&mut rig.app, "body").await;
    hear(&mut server, "body").await;
    say(&mut server, OK).await;
    hear(&mut rig.app, OK_PASSED).await;
}

#[tokio::test]
async fn interim_responses_come_before_the_final_one() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n";
    say(&mut server, hints).await;
    hear(&mut rig.app, hints).await;
    say(
        &mut server,
        &format!("HTTP/1.1 102 Processing\r\n\r\n{hints}{OK}"),
    )
    .await;
    hear(
        &mut rig.app,
        &format!("HTTP/1.1 102 Processing\r\n\r\n{hints}{OK_PASSED}"),
    )
    .await;
    say(&mut rig.app, GET).await;
    hear(&mut server, GET_SENT).await;
}

#[tokio::test]
async fn an_http10_client_gets_no_interim_responses() {
    let mut rig = rig().await;
    say(&mut rig.app, "GET / HTTP/1.0\r\nhost: shop\r\n\r\n").await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(
        &mut server,
        &format!("HTTP/1.1 103 Early Hints\r\n\r\n{OK}"),
    )
    .await;
    hear_last(
        &mut rig.app,
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    )
    .await;
}
