//! What callers cannot do: too much, too long, or in the wrong form.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::{Answer, Running, exchange, policy};

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let server = Running::start();
    let answer = server.http("GET /v1/nowhere?x", &[], "").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (404, "no-resource")
    );
    let answer = server.http("DELETE /v1/policy", &[], "").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (405, "no-method")
    );
    assert!(answer.head.contains("allow: "), "{answer:?}");
}

#[tokio::test]
async fn bodies_have_a_bound_and_a_type() {
    let server = Running::start();
    let huge = " ".repeat(1024 * 1024 + 1);
    let answer = server.http("PUT /v1/policy", &["If-Match: *"], &huge).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (413, "too-large")
    );
    let yaml = ["If-Match: *", "Content-Type: application/yaml"];
    let answer = server
        .http("PUT /v1/policy", &yaml, "version: weir/v1")
        .await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (415, "media-type")
    );
    let json = [
        "If-Match: *",
        "Content-Type: Application/JSON; charset=utf-8",
    ];
    let answer = server
        .http("PUT /v1/policy", &json, &policy(8).to_string())
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn bytes_that_are_no_http_end_the_connection_and_nothing_else() {
    let server = Running::start();
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET /v1/policy HTTP/9.9\r\n\r\n",
        "GET\r\n\r\n",
    ] {
        let socket = server.socket.clone();
        let sent = tokio::task::spawn_blocking(move || exchange(&socket, garbage.as_bytes()));
        let answer = Answer::of(&sent.await.unwrap());
        assert!(
            matches!(answer.status, 0 | 400 | 505),
            "{garbage:?}: {answer:?}"
        );
    }
    assert_eq!(server.http("GET /v1/policy", &[], "").await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_at_once() {
    let server = Running::start();
    let mut idle: Vec<UnixStream> = (0..64)
        .map(|_| UnixStream::connect(&server.socket).unwrap())
        .collect();
    let surplus = server.http("GET /v1/policy", &[], "").await;
    assert_eq!(surplus.status, 0, "{surplus:?}");
    assert_eq!(server.counts.view().refused_connections, 1);
    // A place that becomes free can be taken again, once the server has seen that it is.
    let mut last = idle.pop().unwrap();
    last.write_all(b"GARBAGE\r\n\r\n").unwrap();
    drop(last);
    let answered = async {
        while server.http("GET /v1/policy", &[], "").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answered)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_stops_cuts_off_who_is_idle() {
    let server = Running::start();
    let idle = UnixStream::connect(&server.socket).unwrap();
    let mut watch = server.client().watch(None).await.unwrap();
    watch.next().await.unwrap().unwrap();
    server.stop().await;
    assert!(!matches!(watch.next().await, Ok(Some(_))));
    drop(idle);
}
