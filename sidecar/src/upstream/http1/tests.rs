//! The pool against servers that write exact bytes.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http::interim::SEEN_MAX;
use crate::telemetry::metrics::{Direction, Side, Speaks};
use crate::wire::tunnel::reset;

struct Rig {
    pool: Arc<Pool>,
    listener: TcpListener,
    addr: SocketAddr,
}

async fn rig() -> Rig {
    rig_with(Settings::default()).await
}

async fn rig_with(settings: Settings) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    Rig {
        pool: Arc::new(Pool::new(settings)),
        listener,
        addr,
    }
}

type Answer = tokio::task::JoinHandle<Result<Response<Body>, UpstreamError>>;

impl Rig {
    fn send(&self, request: Request<Body>) -> Answer {
        let (pool, addr) = (Arc::clone(&self.pool), self.addr);
        tokio::spawn(async move { pool.send(addr, request).await })
    }

    async fn accept(&self) -> TcpStream {
        within(self.listener.accept()).await.unwrap().0
    }

    /// What comes of a GET when the server's answer is these bytes and then its end.
    async fn answered_by(&self, bytes: &str) -> Result<Response<Body>, UpstreamError> {
        let answer = self.send(get());
        let mut server = self.accept().await;
        hear_head(&mut server).await;
        server.write_all(bytes.as_bytes()).await.unwrap();
        drop(server);
        within(answer).await.unwrap()
    }

    /// One whole call on a server's connection.
    async fn call(&self, server: &mut TcpStream) {
        let answer = self.send(get());
        hear_head(server).await;
        server.write_all(OK.as_bytes()).await.unwrap();
        let response = within(answer).await.unwrap().unwrap();
        assert_eq!(text(response).await.unwrap(), "hi");
    }

    /// A connection that has served one call, and waits for the next.
    async fn unused(&self) -> TcpStream {
        let answer = self.send(get());
        let mut server = self.accept().await;
        hear_head(&mut server).await;
        server.write_all(OK.as_bytes()).await.unwrap();
        let response = within(answer).await.unwrap().unwrap();
        text(response).await.unwrap();
        server
    }

    /// Waits until as many connections are unused.
    async fn until_unused(&self, count: usize) {
        let counted = async {
            while self.pool.0.idle.count(self.addr) != count {
                tokio::task::yield_now().await;
            }
        };
        within(counted).await;
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it never came")
}

fn get() -> Request<Body> {
    Request::get("/")
        .header("host", "shop")
        .body(Body::Empty)
        .unwrap()
}

fn put(body: Body) -> Request<Body> {
    Request::put("/").header("host", "shop").body(body).unwrap()
}

async fn text(response: Response<Body>) -> Result<String, BodyError> {
    let bytes = within(response.into_body().collect()).await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

async fn hear_head(server: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_ne!(within(server.read_buf(&mut bytes)).await.unwrap(), 0);
    }
    String::from_utf8(bytes).unwrap()
}

async fn hear_end(server: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _reset = within(server.read_to_end(&mut rest)).await;
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn a_connection_is_counted_as_open_and_as_idle_between_its_calls() {
    let settings = Settings::default();
    let metrics = Arc::clone(&settings.metrics);
    let open = || metrics.open(Side::Upstream, Speaks::Http1);
    let rig = rig_with(settings).await;
    let mut server = rig.unused().await;
    rig.until_unused(1).await;
    assert_eq!((open(), metrics.idle()), (1, 1));
    let answer = rig.send(get());
    let asked = hear_head(&mut server).await.len();
    assert_eq!((open(), metrics.idle()), (1, 0));
    server.write_all(OK.as_bytes()).await.unwrap();
    text(within(answer).await.unwrap().unwrap()).await.unwrap();
    let sent = metrics.bytes_of(Side::Upstream, Direction::Sent);
    assert_eq!(usize::try_from(sent), Ok(2 * asked));
    let received = metrics.bytes_of(Side::Upstream, Direction::Received);
    assert_eq!(usize::try_from(received), Ok(2 * OK.len()));
    rig.until_unused(1).await;
    drop(server);
    rig.until_unused(0).await;
    assert_eq!((open(), metrics.idle()), (0, 0));
    let _server = rig.unused().await;
    rig.until_unused(1).await;
    drop(rig);
    while open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(metrics.idle(), 0);
}

#[tokio::test]
async fn the_connection_used_last_is_used_next() {
    let rig = rig().await;
    let (first, second) = (rig.send(get()), rig.send(get()));
    let (mut older, mut newer) = (rig.accept().await, rig.accept().await);
    for (server, answer) in [(&mut older, first), (&mut newer, second)] {
        hear_head(server).await;
        server.write_all(OK.as_bytes()).await.unwrap();
        text(within(answer).await.unwrap().unwrap()).await.unwrap();
    }
    rig.until_unused(2).await;
    rig.call(&mut newer).await;
    rig.call(&mut newer).await;
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_forgotten_at_once() {
    let rig = rig().await;
    let server = rig.unused().await;
    rig.until_unused(1).await;
    drop(server);
    rig.until_unused(0).await;
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_end_an_unused_connection() {
    let rig = rig().await;
    let mut server = rig.unused().await;
    rig.until_unused(1).await;
    server
        .write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        .await
        .unwrap();
    rig.until_unused(0).await;
}

#[tokio::test]
async fn unused_connections_end_after_their_time() {
    let rig = rig_with(Settings {
        idle_timeout: Duration::from_millis(40),
        ..Settings::default()
    })
    .await;
    let mut server = rig.unused().await;
    rig.until_unused(1).await;
    hear_end(&mut server).await;
    rig.until_unused(0).await;
}

#[tokio::test]
async fn more_unused_connections_than_allowed_are_not_kept() {
    let rig = rig_with(Settings {
        idle_max: 1,
        ..Settings::default()
    })
    .await;
    let (first, second) = (rig.send(get()), rig.send(get()));
    let (mut older, mut newer) = (rig.accept().await, rig.accept().await);
    for (server, answer) in [(&mut older, first), (&mut newer, second)] {
        hear_head(server).await;
        server.write_all(OK.as_bytes()).await.unwrap();
        text(within(answer).await.unwrap().unwrap()).await.unwrap();
    }
    hear_end(&mut older).await;
    rig.call(&mut newer).await;
}

#[tokio::test]
async fn a_request_of_which_no_byte_left_was_not_sent() {
    let rig = rig().await;
    let server = rig.unused().await;
    rig.until_unused(1).await;
    reset(server);
    // The driver has had no turn yet: the pool still offers the dead connection, and its first write fails.
    let answered = within(rig.send(get())).await.unwrap();
    assert!(
        matches!(answered, Err(UpstreamError::NotSent { .. })),
        "{answered:?}"
    );
    rig.until_unused(0).await;
}

#[tokio::test]
async fn a_connection_that_dies_before_it_answers_is_a_reset() {
    let rig = rig().await;
    let answered = rig.answered_by("").await;
    assert!(
        matches!(answered, Err(UpstreamError::Reset { .. })),
        "{answered:?}"
    );
    let answered = rig.answered_by("HTTP/1.1 200 OK\r\nA").await;
    assert!(
        matches!(answered, Err(UpstreamError::Reset { .. })),
        "{answered:?}"
    );
}

#[tokio::test]
async fn what_is_no_clear_response_is_malformed() {
    let rig = rig().await;
    let large = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(70_000));
    for bytes in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        &large,
        &"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(SEEN_MAX + 1),
    ] {
        let answered = rig.answered_by(bytes).await;
        assert!(
            matches!(answered, Err(UpstreamError::Malformed { .. })),
            "{bytes:?}: {answered:?}"
        );
        rig.until_unused(0).await;
    }
}

#[tokio::test]
async fn a_length_given_twice_is_passed_on_once() {
    let rig = rig().await;
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let response = rig.answered_by(bytes).await.unwrap();
        let lengths = response.headers().get_all("content-length");
        assert_eq!(lengths.iter().collect::<Vec<_>>(), ["2"], "{bytes:?}");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_an_error_of_its_body() {
    let rig = rig().await;
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\n",
    ] {
        let response = rig.answered_by(bytes).await.unwrap();
        assert!(
            matches!(text(response).await, Err(BodyError::Http1(_))),
            "{bytes:?}"
        );
    }
}

#[tokio::test]
async fn a_request_body_that_fails_is_the_applications_failure() {
    let rig = rig().await;
    // The body of a response that breaks off stands for an application's that does.
    let response = rig
        .answered_by("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi")
        .await
        .unwrap();
    let answer = rig.send(put(response.into_body()));
    let mut server = rig.accept().await;
    hear_end(&mut server).await;
    let answered = within(answer).await.unwrap();
    assert!(
        matches!(answered, Err(UpstreamError::RequestBody(_))),
        "{answered:?}"
    );
}

#[tokio::test]
async fn a_call_that_is_given_up_closes_its_connection() {
    let rig = rig().await;
    let answer = rig.send(get());
    let mut server = rig.accept().await;
    hear_head(&mut server).await;
    answer.abort();
    hear_end(&mut server).await;
    rig.until_unused(0).await;
}

#[tokio::test]
async fn a_response_that_is_given_up_closes_its_connection() {
    let rig = rig().await;
    let answer = rig.send(get());
    let mut server = rig.accept().await;
    hear_head(&mut server).await;
    server
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi")
        .await
        .unwrap();
    drop(within(answer).await.unwrap().unwrap());
    hear_end(&mut server).await;
    rig.until_unused(0).await;
}

#[tokio::test]
async fn a_connection_that_is_to_close_is_not_used_again() {
    let rig = rig().await;
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let answer = rig.send(get());
        let mut server = rig.accept().await;
        hear_head(&mut server).await;
        server.write_all(head.as_bytes()).await.unwrap();
        text(within(answer).await.unwrap().unwrap()).await.unwrap();
        hear_end(&mut server).await;
        rig.until_unused(0).await;
    }
}

#[tokio::test]
async fn a_connection_waits_for_the_rest_of_its_request_before_it_is_used_again() {
    let rig = rig().await;
    let answer = rig.send(put(Body::full("four")));
    let mut server = rig.accept().await;
    let mut request = Vec::new();
    while !request.ends_with(b"four") {
        assert_ne!(within(server.read_buf(&mut request)).await.unwrap(), 0);
    }
    server.write_all(OK.as_bytes()).await.unwrap();
    text(within(answer).await.unwrap().unwrap()).await.unwrap();
    rig.until_unused(1).await;
    rig.call(&mut server).await;
}

#[tokio::test]
async fn a_dropped_pool_closes_everything() {
    let rig = rig().await;
    let mut unused = rig.unused().await;
    drop(rig);
    hear_end(&mut unused).await;
}

#[tokio::test]
async fn a_refused_connection_is_a_connect_failure() {
    let Rig {
        pool,
        listener,
        addr,
    } = rig().await;
    drop(listener);
    let answered = pool.send(addr, get()).await;
    assert!(
        matches!(answered, Err(UpstreamError::Connect { .. })),
        "{answered:?}"
    );
}

#[tokio::test]
async fn tasks_of_ended_connections_are_freed_although_no_other_is_opened() {
    let settings = Settings {
        idle_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let rig = rig_with(settings).await;
    let answers = [rig.send(get()), rig.send(get())];
    for _ in 0..2 {
        let mut server = rig.accept().await;
        hear_head(&mut server).await;
        server.write_all(OK.as_bytes()).await.unwrap();
    }
    for answer in answers {
        within(answer).await.unwrap().unwrap();
    }
    let drivers = &rig.pool.0.drivers;
    // The one that looks for them ends with them, and stays.
    within(async {
        while drivers.count() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_connection_is_kept_while_there_are_too_many() {
    let settings = Settings {
        open_max: 1,
        ..Settings::default()
    };
    let rig = rig_with(settings).await;
    let answers = [rig.send(get()), rig.send(get())];
    for _ in 0..2 {
        let mut server = rig.accept().await;
        hear_head(&mut server).await;
        server.write_all(OK.as_bytes()).await.unwrap();
        // Closed by us, or kept: then the test ends with one.
        tokio::spawn(async move { server.read(&mut [0; 1]).await });
    }
    for answer in answers {
        within(answer).await.unwrap().unwrap();
    }
    assert!(rig.pool.0.idle.count(rig.addr) <= 1);
}
