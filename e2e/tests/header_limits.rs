//! Heads and trailers around the limit, in both directions: they pass whole, or their end is plain to see and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::h2c::{self, Client, Reply};
use e2e::http1::Message;
use e2e::origin::{Origin, header};
use e2e::scripted::Server;
use e2e::wait;
use e2e::weir::Weir;
use http::{HeaderMap, HeaderValue};

/// Above what libraries take by default (16 KiB), below what weir does (64 KiB).
const LARGE: usize = 48 * 1024;
/// Above what weir takes.
const TOO_LARGE: usize = 70_000;
/// So far above it that it is only just not abuse: 95 KiB as HTTP/2 sends it, where a letter has six bits.
const MUCH_TOO_LARGE: usize = 130_000;
/// So far above it that HTTP/2 ends the connection.
const ABUSIVE: usize = 300_000;

/// An HTTP/2 connection through weir.
async fn connect(weir: &Weir, origin: &Origin) -> Client {
    let client = Client::open(weir.connect(origin.addr())).await;
    client.expect("weir speaks HTTP/2")
}

/// A server, weir, and a connection through it to the server.
async fn connected() -> (Origin, Weir, Client) {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let client = connect(&weir, &origin).await;
    (origin, weir, client)
}

/// Fails unless the connection takes a further call.
async fn assert_lives_on(client: &Client, origin: &Origin) {
    let reply = client.call(h2c::get(origin.addr(), "/"), "").await;
    assert_eq!(reply.expect("the connection lives on").status(), 200);
}

/// One trailer of so many bytes.
fn trailers_of(bytes: usize) -> HeaderMap {
    let value = HeaderValue::try_from("b".repeat(bytes)).expect("letters are a value");
    HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), value)])
}

/// An HTTP/2 call whose request ends with trailers of so many bytes.
async fn call_with_trailers(
    client: &Client,
    origin: &Origin,
    bytes: usize,
) -> Result<Reply, h2::Error> {
    let request = h2c::request("POST", origin.addr(), "/echo", &[]);
    let (response, mut body) = client.open_stream(request).await?;
    body.send_data("hello".into(), false)?;
    body.send_trailers(trailers_of(bytes))?;
    h2c::read(response.await?).await
}

/// An HTTP/1.1 server that sends back each request's trailer, or one of `x-bytes` bytes.
fn server_of_trailers() -> Server {
    Server::http(|request| {
        let sum = match request.header("x-bytes") {
            Some(bytes) => "b".repeat(bytes.parse().expect("a number")),
            None => request.trailer("x-sum").unwrap_or_default().to_owned(),
        };
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}2\r\nok\r\n0\r\nx-sum: {sum}\r\n\r\n").into_bytes()
    })
}

/// An HTTP/1.1 request that ends with trailers of so many bytes.
fn request_with_trailers(bytes: usize) -> String {
    let sum = "b".repeat(bytes);
    format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: {sum}\r\n\r\n"
    )
}

/// Fails unless so many calls were counted as failed.
fn assert_failed(weir: &Weir, count: f64) {
    let failed = [r#"outcome="failed""#];
    assert_counted(weir, "weir_outbound_requests_total", &failed, count);
}

/// Fails unless so many calls were counted as answered, and no other was.
fn assert_answered(weir: &Weir, count: f64) {
    assert_counted(weir, "weir_outbound_requests_total", &[], count);
    let answered = [r#"outcome="answered""#];
    assert_counted(weir, "weir_outbound_requests_total", &answered, count);
}

fn assert_counted(weir: &Weir, name: &str, labels: &[&str], count: f64) {
    // Some are counted only once the peer has been told.
    wait::until_true(&format!("{name} to be {count}"), wait::LONG, || {
        (weir.metric(name, labels) - count).abs() < 0.1
    });
}

#[tokio::test]
async fn large_http2_heads_pass_both_ways() {
    let (origin, _weir, client) = connected().await;
    let big = "b".repeat(LARGE);
    let request = h2c::request("GET", origin.addr(), "/echo", &[("x-big", &big)]);
    let reply = client.call(request, "").await.expect("an answer");
    assert_eq!(header(&reply.json(), "x-big"), big);
    let request = h2c::get(origin.addr(), &format!("/head/{LARGE}"));
    let reply = client.call(request, "").await.expect("an answer");
    assert_eq!((reply.status(), reply.header("x-big").len()), (200, LARGE));
}

#[tokio::test]
async fn large_http2_trailers_pass_both_ways() {
    let (origin, weir, client) = connected().await;
    let reply = call_with_trailers(&client, &origin, LARGE).await;
    let told = reply.expect("an answer").json();
    assert_eq!(told["trailers"][0][1], "b".repeat(LARGE));
    let request = h2c::get(origin.addr(), &format!("/trailers/{LARGE}"));
    let reply = client.call(request, "").await.expect("an answer");
    assert_eq!(reply.trailer("x-checksum").len(), LARGE);
    assert_answered(&weir, 2.0);
}

#[test]
fn large_http1_trailers_pass_both_ways() {
    let server = server_of_trailers();
    let weir = Weir::run();
    let answer = weir
        .http(server.addr())
        .exchange(request_with_trailers(LARGE))
        .expect("an answer");
    let sum = answer.trailer("x-sum").map(str::len);
    assert_eq!((answer.text().as_str(), sum), ("ok", Some(LARGE)));
    assert_answered(&weir, 1.0);
}

#[test]
fn an_http1_requests_trailers_above_the_limit_end_it_with_a_400() {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&whole);
    let server = Server::http(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    let answer = connection.exchange(request_with_trailers(TOO_LARGE));
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 400, "{answer:?}");
    assert_eq!(answer.json()["type"], "urn:weir:request_body");
    assert!(connection.head().is_err(), "the connection is closed");
    assert_eq!(whole.load(Ordering::SeqCst), 0, "it was passed on as whole");
    let http1 = [r#"protocol="http1""#];
    assert_counted(&weir, "weir_header_limit_refusals_total", &http1, 1.0);
    let answer = weir.http(server.addr()).get("a", "/");
    assert_eq!(answer.expect("weir lives on").text(), "ok");
}

#[test]
fn an_http1_responses_trailers_above_the_limit_break_it_off() {
    let server = server_of_trailers();
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Bytes: {TOO_LARGE}\r\n\r\n");
    connection.send(request).expect("weir reads");
    assert_eq!(connection.head().expect("a head").status(), 200);
    assert_eq!(connection.chunk().expect("a chunk"), b"ok");
    let end = connection.chunk();
    assert!(end.is_err(), "a client takes it for whole: {end:?}");
    assert_failed(&weir, 1.0);
    let answer = weir.http(server.addr()).get("a", "/");
    assert_eq!(answer.expect("weir lives on").text(), "ok");
}

#[tokio::test]
async fn an_http2_requests_trailers_above_the_limit_end_it_with_a_400() {
    let (origin, weir, client) = connected().await;
    for (refused, bytes) in (1..).zip([TOO_LARGE, MUCH_TOO_LARGE]) {
        let reply = call_with_trailers(&client, &origin, bytes).await;
        let reply = reply.expect("an answer");
        assert_eq!(reply.status(), 400, "{bytes} bytes");
        assert_eq!(reply.json()["type"], "urn:weir:request_body");
        let http2 = [r#"protocol="http2""#];
        let count = f64::from(refused);
        assert_counted(&weir, "weir_header_limit_refusals_total", &http2, count);
    }
    assert_eq!(origin.calls(), 0, "the request was not whole");
    assert_lives_on(&client, &origin).await;
}

#[tokio::test]
async fn an_http2_requests_trailers_above_the_limit_end_a_response_that_has_begun() {
    let (origin, weir, client) = connected().await;
    let request = h2c::request("POST", origin.addr(), "/mirror", &[]);
    let (response, mut body) = client.open_stream(request).await.expect("a stream");
    body.send_data("hello".into(), false).expect("a stream");
    let mut response = response.await.expect("a head").into_body();
    let first = response.data().await.expect("data").expect("a body");
    assert_eq!(first, "hello");
    body.send_trailers(trailers_of(TOO_LARGE))
        .expect("a stream");
    let end = response.data().await.expect("no end that looks whole");
    assert!(end.is_err(), "{end:?}");
    let http2 = [r#"protocol="http2""#];
    assert_counted(&weir, "weir_header_limit_refusals_total", &http2, 1.0);
}

#[tokio::test]
async fn an_http2_responses_trailers_above_the_limit_reset_its_stream() {
    let (origin, weir, client) = connected().await;
    for (failed, bytes) in (1..).zip([TOO_LARGE, MUCH_TOO_LARGE]) {
        let request = h2c::get(origin.addr(), &format!("/trailers/{bytes}"));
        let error = client.call(request, "").await.expect_err("no whole answer");
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{error}");
        assert_failed(&weir, f64::from(failed));
    }
    assert_lives_on(&client, &origin).await;
}

#[tokio::test]
async fn http2_heads_above_the_limit_are_refused_both_ways() {
    let (origin, weir, client) = connected().await;
    for bytes in [TOO_LARGE, MUCH_TOO_LARGE] {
        let big = "b".repeat(bytes);
        let request = h2c::request("POST", origin.addr(), "/echo", &[("x-big", &big)]);
        let reply = client.call(request, "hello").await.expect("an answer");
        assert_eq!(reply.status(), 431, "{bytes} bytes");
        let request = h2c::get(origin.addr(), &format!("/head/{bytes}"));
        let reply = client.call(request, "").await.expect("an answer");
        assert_eq!(reply.status(), 502, "{bytes} bytes");
    }
    assert_eq!(origin.calls(), 2, "a refused request reaches nobody");
    let http2 = [r#"protocol="http2""#];
    assert_counted(&weir, "weir_header_limit_refusals_total", &http2, 2.0);
}

#[tokio::test]
async fn an_http2_requests_abusive_trailers_end_its_connection() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let other = connect(&weir, &origin).await;
    let client = connect(&weir, &origin).await;
    let ended = call_with_trailers(&client, &origin, ABUSIVE).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(origin.calls(), 0, "the request was not whole");
    let http2 = [r#"protocol="http2""#];
    assert_counted(&weir, "weir_header_limit_refusals_total", &http2, 1.0);
    assert_lives_on(&other, &origin).await;
}

#[tokio::test]
async fn an_http2_responses_abusive_trailers_reset_its_stream() {
    let (origin, weir, client) = connected().await;
    let request = h2c::get(origin.addr(), &format!("/trailers/{ABUSIVE}"));
    let error = client.call(request, "").await.expect_err("no whole answer");
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{error}");
    assert_failed(&weir, 1.0);
    assert_lives_on(&client, &origin).await;
}

/// A head that passes by default, and not where the limit is [`LOWER`].
const MEDIUM: usize = 20_000;
const LOWER: usize = 8192;

/// The statuses of a request with a head of [`MEDIUM`] bytes and of a response with one, by HTTP/1.1, then by HTTP/2.
async fn statuses(weir: &Weir, origin: &Origin) -> [u16; 4] {
    let status = |answer: std::io::Result<Message>| answer.expect("an answer").status();
    let medium = "b".repeat(MEDIUM);
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Big: {medium}\r\n\r\n");
    let path = format!("/head/{MEDIUM}");
    let http1 = [
        status(weir.http(origin.addr()).exchange(request)),
        status(weir.http(origin.addr()).get("a", &path)),
    ];
    let client = connect(weir, origin).await;
    let request = h2c::request("GET", origin.addr(), "/", &[("x-big", &medium)]);
    let mut http2 = [0; 2];
    for (place, request) in [request, h2c::get(origin.addr(), &path)]
        .into_iter()
        .enumerate()
    {
        http2[place] = client.call(request, "").await.expect("an answer").status();
    }
    [http1[0], http1[1], http2[0], http2[1]]
}

#[tokio::test]
async fn a_limit_of_ones_own_holds_for_both_protocols_and_directions() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    assert_eq!(statuses(&weir, &origin).await, [200; 4], "by default");
    let weir = Weir::builder().env("WEIR_HEADER_BYTES_MAX", LOWER).run();
    origin.reset();
    assert_eq!(statuses(&weir, &origin).await, [431, 502, 431, 502]);
    assert_eq!(origin.calls(), 2, "a refused request reaches nobody");
    for protocol in [r#"protocol="http1""#, r#"protocol="http2""#] {
        assert_counted(&weir, "weir_header_limit_refusals_total", &[protocol], 1.0);
    }
    let malformed = [r#"kind="malformed_response""#];
    assert_counted(&weir, "weir_outbound_attempt_errors_total", &malformed, 2.0);
}
