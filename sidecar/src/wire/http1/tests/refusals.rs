//! Bad input: a 400 and a close, and nothing of it reaches the server.

use super::*;

/// The answer to a bad request, which must not reach the server.
async fn refused(text: &str) -> String {
    let mut rig = rig().await;
    say(&mut rig.app, text).await;
    let mut bytes = Vec::new();
    within(rig.app.read_to_end(&mut bytes)).await.unwrap();
    let contact = tokio::time::timeout(Duration::from_millis(1), rig.listener.accept()).await;
    assert!(contact.is_err(), "{text:?} reached the server");
    String::from_utf8(bytes).unwrap()
}

const BAD_REQUEST: &str =
    "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const TOO_LARGE: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn heads_with_two_meanings_get_a_400_and_a_close() {
    for text in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nhost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\na: b\r\n\r\n",
        "GET http://shop/ HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nX\0: b\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "G\u{e9}T / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nX : b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        assert_eq!(refused(text).await, BAD_REQUEST, "{text:?}");
    }
}

#[tokio::test]
async fn heads_over_the_limits_get_a_431_and_a_close() {
    let long = "x".repeat(64 * 1024);
    let many = "a: b\r\n".repeat(101);
    for text in [
        format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{many}\r\n"),
    ] {
        assert_eq!(refused(&text).await, TOO_LARGE);
    }
}

#[tokio::test]
async fn a_head_just_below_the_limit_passes() {
    let mut rig = rig().await;
    let value = "x".repeat(64 * 1024 - 100);
    say(
        &mut rig.app,
        &format!("GET / HTTP/1.1\r\nhost: shop\r\na: {value}\r\n\r\n"),
    )
    .await;
    let mut server = rig.accept().await;
    hear(
        &mut server,
        &format!("GET / HTTP/1.1\r\nhost: shop\r\na: {value}\r\n\r\n"),
    )
    .await;
    say(
        &mut server,
        &format!("HTTP/1.1 200 OK\r\na: {value}\r\ncontent-length: 0\r\n\r\n"),
    )
    .await;
    hear(
        &mut rig.app,
        &format!("HTTP/1.1 200 OK\r\na: {value}\r\ncontent-length: 0\r\n\r\n"),
    )
    .await;
}

#[tokio::test]
async fn a_bad_request_behind_a_good_one_is_refused_after_the_good_ones_answer() {
    let mut rig = rig().await;
    say(&mut rig.app, &format!("{GET}GET / HTTP/1.1\nHost: a\n\n")).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(&mut server, OK).await;
    hear(&mut rig.app, OK_PASSED).await;
    hear_last(&mut rig.app, BAD_REQUEST).await;
}

#[tokio::test]
async fn a_bad_chunk_ends_the_request_on_both_sides() {
    for bad in [
        "zz\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n",
        "3;a\n\r\nabc\r\n",
        "0\r\nA : b\r\n\r\n",
    ] {
        let mut rig = rig().await;
        let head = "POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n";
        say(&mut rig.app, head).await;
        let mut server = rig.accept().await;
        hear(
            &mut server,
            &head
                .replace("Host", "host")
                .replace("Transfer-E", "transfer-e"),
        )
        .await;
        say(&mut rig.app, bad).await;
        let mut sent = Vec::new();
        within(server.read_to_end(&mut sent)).await.unwrap();
        assert!(
            !sent.ends_with(b"0\r\n\r\n"),
            "{bad:?} was made a whole request"
        );
        let mut answer = String::new();
        within(rig.app.read_to_string(&mut answer)).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.ends_with("request_body"),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let mut rig = rig().await;
    say(&mut rig.app, "POST / HTTP/1.1\nContent-Length: 3000000\n\n").await;
    let (mut read, mut write) = rig.app.split();
    let sends = async {
        let chunk = vec![b'x'; 10_000];
        for _ in 0..300 {
            if write.write_all(&chunk).await.is_err() {
                break;
            }
        }
    };
    let mut answer = String::new();
    let (_sent, answered) =
        within(async { tokio::join!(sends, read.read_to_string(&mut answer)) }).await;
    answered.unwrap();
    assert_eq!(answer, BAD_REQUEST);
}

#[tokio::test]
async fn violations_are_counted_by_kind() {
    // Other tests count as well, so only growth is certain.
    for (text, kind) in [
        ("GET / HTTP/1.1\nHost: a\n\n", Violation::BareLineFeed),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
            Violation::Syntax,
        ),
    ] {
        let before = VIOLATIONS.get(kind);
        refused(text).await;
        assert!(VIOLATIONS.get(kind) > before, "{kind:?}");
    }
}
