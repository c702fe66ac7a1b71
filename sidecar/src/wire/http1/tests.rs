//! A connection of the application served from end to end: raw bytes in on one side, raw bytes out on the other.

use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::drain::{self, Drain};
use crate::error::UpstreamError;
use crate::upstream::connect::Settings;
use crate::upstream::http1::Pool;
use crate::wire::tunnel::reset;

mod bodies;
mod endings;
mod expectation;
mod refusals;
mod upgrades;

/// An application's connection, and the server that it dialled.
struct Rig {
    app: TcpStream,
    listener: TcpListener,
    drain: Drain,
    served: JoinHandle<()>,
}

async fn rig() -> Rig {
    rig_with(Settings::default()).await
}

async fn rig_with(settings: Settings) -> Rig {
    let (app, ours) = pair().await;
    rig_of(settings, app, ours).await
}

async fn rig_of<IO>(settings: Settings, app: TcpStream, ours: IO) -> Rig
where
    IO: AsyncRead + AsyncWrite + Into<Leg> + Send + Unpin + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (drain, draining) = drain::channel();
    let pool = Arc::new(Pool::new(settings));
    let answer = move |request| {
        let pool = Arc::clone(&pool);
        async move {
            let answered = pool.send(addr, request).await;
            answered.map_or_else(
                |error| failure(&error),
                |response| response.map(ResponseBody::new),
            )
        }
    };
    let limits = Limits::default();
    let client = Ends::here(addr).of(app.local_addr().unwrap(), app.peer_addr().unwrap());
    let served = tokio::spawn(async move {
        let serving = serve_until_tunnel(answer, limits, ours, client, Some(addr), draining);
        if let Some(tunnel) = serving.await {
            tunnel.carry::<IO>().await;
        }
    });
    Rig {
        app,
        listener,
        drain,
        served,
    }
}

fn failure(error: &UpstreamError) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::new(Body::full(error.kind())));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

impl Rig {
    async fn accept(&self) -> TcpStream {
        within(self.listener.accept()).await.unwrap().0
    }
}

/// Nothing here takes long; what does is lost.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it never came")
}

async fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads as many bytes as are expected, and compares.
async fn hear(stream: &mut TcpStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    let mut read = 0;
    while read < bytes.len() && expected.as_bytes().starts_with(&bytes[..read]) {
        match within(stream.read(&mut bytes[read..])).await.unwrap() {
            0 => break,
            count => read += count,
        }
    }
    assert_eq!(String::from_utf8_lossy(&bytes[..read]), expected);
}

/// Reads to the end of the stream, and compares.
async fn hear_last(stream: &mut TcpStream, expected: &str) {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

const GET: &str = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
const GET_SENT: &str = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const OK_PASSED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[tokio::test]
async fn calls_share_one_connection_on_each_side_and_nothing_is_added() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    for turn in 0..3 {
        if turn > 0 {
            say(&mut rig.app, GET).await;
        }
        hear(&mut server, GET_SENT).await;
        say(&mut server, OK).await;
        hear(&mut rig.app, OK_PASSED).await;
    }
}

#[tokio::test]
async fn values_pass_untouched_and_hop_by_hop_fields_do_not() {
    let mut rig = rig().await;
    say(
        &mut rig.app,
        "POST /a%20b?q=%zz&x=1 HTTP/1.1\r\nhost: Shop:8080\r\nconnection: X-Hop, keep-alive\r\nx-hop: 1\r\n\
         keep-alive: timeout=5\r\nx-odd:   a \t b  \r\nx-twice: 2\r\nx-twice: 1\r\nx-empty:\r\nx-latin: \u{e9}\r\n\
         te: gzip, trailers\r\ncontent-length: 4\r\n\r\nbody",
    )
    .await;
    let mut server = rig.accept().await;
    let mut bytes = vec![0; 1024];
    let count = within(server.read(&mut bytes)).await.unwrap();
    let request = String::from_utf8_lossy(&bytes[..count]).into_owned();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let (line, fields) = head.split_once("\r\n").unwrap();
    assert_eq!(line, "POST /a%20b?q=%zz&x=1 HTTP/1.1");
    assert_eq!(body, "body");
    let mut fields: Vec<&str> = fields.split("\r\n").collect();
    fields.sort_by_key(|field| field.split(':').next().map(str::to_owned));
    assert_eq!(
        fields,
        [
            "content-length: 4",
            "host: Shop:8080",
            "te: trailers",
            "x-empty:",
            "x-latin: \u{e9}",
            "x-odd: a \t b",
            "x-twice: 2",
            "x-twice: 1",
        ]
    );

    say(
        &mut server,
        "HTTP/1.1 418 Short And Stout\r\nconnection: close, X-Hop\r\nx-hop: 1\r\nset-cookie: b\r\nset-cookie: a\r\n\
         content-length: 0\r\n\r\n",
    )
    .await;
    hear(
        &mut rig.app,
        "HTTP/1.1 418 Short And Stout\r\nset-cookie: b\r\nset-cookie: a\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut rig = rig().await;
    say(&mut rig.app, &GET.repeat(3)).await;
    let mut server = rig.accept().await;
    for turn in ["1", "2", "3"] {
        hear(&mut server, GET_SENT).await;
        say(
            &mut server,
            &format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{turn}"),
        )
        .await;
    }
    for turn in ["1", "2", "3"] {
        hear(
            &mut rig.app,
            &format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{turn}"),
        )
        .await;
    }
}

#[tokio::test]
async fn an_http10_client_gets_its_own_version_and_its_close() {
    let mut rig = rig().await;
    say(&mut rig.app, "GET / HTTP/1.0\r\nhost: shop\r\n\r\n").await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(
        &mut server,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    )
    .await;
    hear_last(&mut rig.app, "HTTP/1.0 200 OK\r\n\r\nhi").await;
}

#[tokio::test]
async fn an_http10_client_may_keep_its_connection() {
    let mut rig = rig().await;
    let request = "GET / HTTP/1.0\r\nhost: shop\r\nconnection: keep-alive\r\n\r\n";
    say(&mut rig.app, request).await;
    let mut server = rig.accept().await;
    for turn in 0..2 {
        if turn > 0 {
            say(&mut rig.app, request).await;
        }
        hear(&mut server, GET_SENT).await;
        say(&mut server, OK).await;
        hear(
            &mut rig.app,
            "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi",
        )
        .await;
    }
}

#[tokio::test]
async fn an_http10_request_without_a_host_is_not_given_one() {
    let mut rig = rig().await;
    say(&mut rig.app, "GET / HTTP/1.0\r\n\r\n").await;
    let mut server = rig.accept().await;
    hear(&mut server, "GET / HTTP/1.0\r\n\r\n").await;
    say(&mut server, "HTTP/1.0 200 OK\r\n\r\nhi").await;
    drop(server);
    hear_last(&mut rig.app, "HTTP/1.0 200 OK\r\n\r\nhi").await;
}

#[tokio::test]
async fn an_http10_server_is_answered_for_in_http11() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(
        &mut server,
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    )
    .await;
    drop(server);
    hear(&mut rig.app, OK_PASSED).await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
}

#[tokio::test]
async fn an_absolute_target_reaches_the_server_it_names_in_origin_form() {
    let mut rig = rig().await;
    let server = rig.listener.local_addr().unwrap();
    say(
        &mut rig.app,
        &format!("GET http://{server}/a?b HTTP/1.1\r\nhost: other\r\n\r\n"),
    )
    .await;
    let mut peer = rig.accept().await;
    hear(
        &mut peer,
        &format!("GET /a?b HTTP/1.1\r\nhost: {server}\r\n\r\n"),
    )
    .await;
}

#[tokio::test]
async fn an_absolute_target_reaches_a_proxy_as_it_is() {
    let mut rig = rig().await;
    say(
        &mut rig.app,
        "GET http://shop/a?b HTTP/1.1\r\nhost: shop\r\n\r\n",
    )
    .await;
    let mut peer = rig.accept().await;
    hear(
        &mut peer,
        "GET http://shop/a?b HTTP/1.1\r\nhost: shop\r\n\r\n",
    )
    .await;
}
