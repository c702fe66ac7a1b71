//! Framing, trailers, and responses that have no body.

use super::*;

#[tokio::test]
async fn a_known_length_stays_one_in_both_directions() {
    let mut rig = rig().await;
    say(
        &mut rig.app,
        "PUT / HTTP/1.1\r\nhost: shop\r\ncontent-length: 5\r\n\r\nhe",
    )
    .await;
    let mut server = rig.accept().await;
    hear(
        &mut server,
        "PUT / HTTP/1.1\r\nhost: shop\r\ncontent-length: 5\r\n\r\nhe",
    )
    .await;
    say(&mut rig.app, "llo").await;
    hear(&mut server, "llo").await;
    say(
        &mut server,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwo",
    )
    .await;
    hear(
        &mut rig.app,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwo",
    )
    .await;
    say(&mut server, "rld").await;
    hear(&mut rig.app, "rld").await;
}

#[tokio::test]
async fn chunks_stay_chunks_in_both_directions_whatever_the_method() {
    for method in ["GET", "POST", "DELETE"] {
        let mut rig = rig().await;
        say(
            &mut rig.app,
            &format!("{method} / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n"),
        )
        .await;
        let mut server = rig.accept().await;
        hear(
            &mut server,
            &format!("{method} / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        )
        .await;
        say(&mut rig.app, "0\r\n\r\n").await;
        hear(&mut server, "0\r\n\r\n").await;
        say(
            &mut server,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        )
        .await;
        hear(
            &mut rig.app,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        )
        .await;
        say(&mut server, "0\r\n\r\n").await;
        hear(&mut rig.app, "0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn a_post_without_a_body_is_not_given_one() {
    let mut rig = rig().await;
    say(&mut rig.app, "POST / HTTP/1.1\r\nhost: shop\r\n\r\n").await;
    let mut server = rig.accept().await;
    hear(&mut server, "POST / HTTP/1.1\r\nhost: shop\r\n\r\n").await;
    say(&mut server, OK).await;
    hear(&mut rig.app, OK_PASSED).await;
    say(
        &mut rig.app,
        "POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    hear(
        &mut server,
        "POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
}

#[tokio::test]
async fn trailers_pass_in_both_directions_announced_or_not() {
    for (asking, announced) in [("", ""), ("te: trailers\r\n", "trailer: X-Sum\r\n")] {
        let mut rig = rig().await;
        say(
            &mut rig.app,
            &format!(
                "POST / HTTP/1.1\r\nhost: shop\r\n{asking}{announced}transfer-encoding: chunked\r\n\r\n\
                 1\r\na\r\n0\r\nx-sum: 7\r\nhost: other\r\n\r\n"
            ),
        )
        .await;
        let mut server = rig.accept().await;
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n1\r\na\r\n0\r\nx-sum: 7\r\n\r\n") {
            assert_ne!(within(server.read_buf(&mut bytes)).await.unwrap(), 0);
        }
        say(
            &mut server,
            &format!(
                "HTTP/1.1 200 OK\r\n{announced}transfer-encoding: chunked\r\n\r\n\
                 1\r\nb\r\n0\r\nx-sum: 8\r\n\r\n"
            ),
        )
        .await;
        let announced = announced.replace("Trailer", "trailer");
        hear(
            &mut rig.app,
            &format!(
                "HTTP/1.1 200 OK\r\n{announced}transfer-encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nx-sum: 8\r\n\r\n"
            ),
        )
        .await;
        // Both connections go on.
        say(&mut rig.app, GET).await;
        hear(&mut server, GET_SENT).await;
        say(&mut server, OK).await;
        hear(&mut rig.app, OK_PASSED).await;
    }
}

#[tokio::test]
async fn trailers_behind_a_large_body_pass() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let body = format!("{}0\r\nx-sum: 8\r\n\r\n", chunk.repeat(40));
    let sends = async {
        say(
            &mut server,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
        say(&mut server, &body).await;
    };
    let mut bytes = Vec::new();
    let reads = async {
        while !bytes.ends_with(b"\r\n0\r\nx-sum: 8\r\n\r\n") {
            assert_ne!(within(rig.app.read_buf(&mut bytes)).await.unwrap(), 0);
        }
    };
    tokio::join!(sends, reads);
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches('x').count(), 40 * 0x10000 + 1);
}

#[tokio::test]
async fn an_http10_client_gets_no_trailers() {
    let mut rig = rig().await;
    say(&mut rig.app, "GET / HTTP/1.0\r\nhost: shop\r\n\r\n").await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(
        &mut server,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 8\r\n\r\n",
    )
    .await;
    hear_last(&mut rig.app, "HTTP/1.0 200 OK\r\n\r\nhi").await;
}

#[tokio::test]
async fn responses_without_a_body_keep_their_head() {
    for (method, sent, passed) in [
        (
            "HEAD",
            "200 OK\r\ncontent-length: 5",
            "200 OK\r\ncontent-length: 5",
        ),
        ("HEAD", "200 OK\r\ntransfer-encoding: chunked", "200 OK"),
        (
            "GET",
            "204 No Content\r\nx-a: b",
            "204 No Content\r\nx-a: b",
        ),
        (
            "GET",
            "304 Not Modified\r\ncontent-length: 5",
            "304 Not Modified\r\ncontent-length: 5",
        ),
        (
            "GET",
            "304 Not Modified\r\netag: \"x\"",
            "304 Not Modified\r\netag: \"x\"",
        ),
    ] {
        let mut rig = rig().await;
        say(
            &mut rig.app,
            &format!("{method} / HTTP/1.1\r\nhost: shop\r\n\r\n"),
        )
        .await;
        let mut server = rig.accept().await;
        hear(
            &mut server,
            &format!("{method} / HTTP/1.1\r\nhost: shop\r\n\r\n"),
        )
        .await;
        say(&mut server, &format!("HTTP/1.1 {sent}\r\n\r\n")).await;
        hear(&mut rig.app, &format!("HTTP/1.1 {passed}\r\n\r\n")).await;
        // Both connections go on.
        say(&mut rig.app, GET).await;
        hear(&mut server, GET_SENT).await;
        say(&mut server, OK).await;
        hear(&mut rig.app, OK_PASSED).await;
    }
}

#[tokio::test]
async fn a_response_that_ends_with_its_connection_ends_with_a_last_chunk() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(&mut server, "HTTP/1.1 200 OK\r\n\r\nab").await;
    hear(
        &mut rig.app,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    )
    .await;
    drop(server);
    hear(&mut rig.app, "0\r\n\r\n").await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_made_a_whole_one() {
    for head in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
    ] {
        let mut rig = rig().await;
        say(&mut rig.app, GET).await;
        let mut server = rig.accept().await;
        hear(&mut server, GET_SENT).await;
        say(&mut server, head).await;
        let passed = head
            .replace("Transfer-E", "transfer-e")
            .replace("Content-L", "content-l");
        hear(&mut rig.app, &passed).await;
        drop(server);
        hear_last(&mut rig.app, "").await;
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_resets_a_client_that_could_take_it_for_whole() {
    let mut rig = rig().await;
    say(&mut rig.app, "GET / HTTP/1.0\r\nhost: shop\r\n\r\n").await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(
        &mut server,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
    )
    .await;
    hear(&mut rig.app, "HTTP/1.0 200 OK\r\n\r\nhi").await;
    drop(server);
    let error = within(rig.app.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
