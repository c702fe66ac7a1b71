//! What passes through HTTP/1.1 is what was sent, but for the headers that belong to one connection and the few of ours.

use std::sync::Arc;
use std::sync::Mutex;

use e2e::http1::Message;
use e2e::scripted::Server;
use e2e::weir::Weir;

/// What weir may add to a request.
const ADDED: [&str; 4] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "x-weir-attempt",
];

/// A server that keeps what it was sent and answers with fixed bytes.
fn server(answer: &'static str) -> (Server, Arc<Mutex<Vec<Message>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let server = Server::http(move |request| {
        kept.lock().expect("no holder panics").push(request.clone());
        answer.as_bytes().to_vec()
    });
    (server, seen)
}

fn only(seen: &Arc<Mutex<Vec<Message>>>) -> Message {
    let seen = seen.lock().expect("no holder panics");
    assert_eq!(seen.len(), 1, "one request reached the server");
    seen[0].clone()
}

fn without_ours(message: &Message) -> Vec<(String, String)> {
    let ours = |name: &str| ADDED.iter().any(|added| added.eq_ignore_ascii_case(name));
    message
        .headers
        .iter()
        .filter(|(name, _)| !ours(name))
        .cloned()
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn sorted(mut list: Vec<(String, String)>) -> Vec<(String, String)> {
    list.sort();
    list
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_gains_its_ids_and_nothing_else() {
    let (server, seen) = server(OK);
    let weir = Weir::run();
    weir.http(server.addr())
        .exchange(
            "GET /a/b?c=d%20e&f HTTP/1.1\r\nHost: shop.test:8080\r\nUser-Agent: probe/1\r\nAccept: */*\r\n\
             X-Twice: 1\r\nX-Twice: 2\r\nCookie: a=b\r\nX-Empty:\r\nCache-Control: no-cache\r\n\r\n",
        )
        .expect("an answer");
    let request = only(&seen);
    assert_eq!(request.start, "GET /a/b?c=d%20e&f HTTP/1.1");
    let expected = pairs(&[
        ("Host", "shop.test:8080"),
        ("User-Agent", "probe/1"),
        ("Accept", "*/*"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
        ("Cookie", "a=b"),
        ("X-Empty", ""),
        ("Cache-Control", "no-cache"),
    ]);
    assert_eq!(sorted(without_ours(&request)), sorted(expected));
    let id = request.header("x-request-id").expect("an id");
    assert_eq!(id.len(), 36, "a UUID: {id}");
    let trace = request.header("traceparent").expect("a trace context");
    assert_eq!(
        trace.split('-').map(str::len).collect::<Vec<_>>(),
        [2, 32, 16, 2],
        "{trace}"
    );
}

#[test]
fn headers_of_one_connection_stay_behind() {
    let (server, seen) = server(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Server-Hop\r\nX-Server-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nX-Kept: 1\r\n\r\nok",
    );
    let weir = Weir::run();
    let answer = weir
        .http(server.addr())
        .exchange(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Connection: keep-alive\r\nX-Kept: 1\r\n\r\n",
        )
        .expect("an answer");
    assert_eq!(
        sorted(without_ours(&only(&seen))),
        sorted(pairs(&[("Host", "a"), ("X-Kept", "1")]))
    );
    assert!(
        answer.header("x-server-hop").is_none() && answer.header("keep-alive").is_none(),
        "{answer:?}"
    );
    assert_eq!(answer.header("x-kept"), Some("1"));
}

#[test]
fn a_response_gains_its_id_and_nothing_else() {
    let (server, _) = server(
        "HTTP/1.1 200 Fine By Me\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Own: x\r\n\r\nok",
    );
    let weir = Weir::run();
    let answer = weir
        .http(server.addr())
        .exchange("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: my-own\r\n\r\n")
        .expect("an answer");
    assert_eq!(answer.start, "HTTP/1.1 200 Fine By Me");
    let expected = pairs(&[
        ("Content-Length", "2"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Own", "x"),
        ("x-request-id", "my-own"),
    ]);
    assert_eq!(sorted(answer.headers.clone()), sorted(expected));
    assert_eq!(answer.text(), "ok");
}

#[test]
fn an_id_of_the_application_is_kept() {
    let (server, seen) = server(OK);
    let weir = Weir::run();
    weir.http(server.addr())
        .exchange("GET / HTTP/1.1\r\nHost: a\r\nX-Correlation-Id: from-elsewhere\r\n\r\n")
        .expect("an answer");
    let request = only(&seen);
    assert_eq!(request.header("x-request-id"), Some("from-elsewhere"));
    assert_eq!(request.header("x-correlation-id"), Some("from-elsewhere"));
}

#[test]
fn a_trace_is_continued_and_a_malformed_one_replaced() {
    let (server, seen) = server(OK);
    let weir = Weir::run();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut connection = weir.http(server.addr());
    for value in [
        format!("00-{trace}-b7ad6b7169203331-01"),
        "00-zz-b7ad6b7169203331-01".to_owned(),
    ] {
        let request =
            format!("GET / HTTP/1.1\r\nHost: a\r\nTraceparent: {value}\r\nTracestate: k=v\r\n\r\n");
        connection.exchange(request).expect("an answer");
    }
    let seen = seen.lock().expect("no holder panics").clone();
    let parents: Vec<&str> = seen
        .iter()
        .filter_map(|request| request.header("traceparent"))
        .collect();
    assert!(
        parents[0].starts_with(&format!("00-{trace}-")) && parents[0].ends_with("-01"),
        "{parents:?}"
    );
    assert!(
        !parents[0].contains("b7ad6b7169203331"),
        "the span is our own: {parents:?}"
    );
    assert_eq!(seen[0].header("tracestate"), Some("k=v"));
    assert!(
        !parents[1].contains("zz") && !parents[1].contains(trace),
        "{parents:?}"
    );
    assert_eq!(
        seen[1].header("tracestate"),
        None,
        "a state without its trace means nothing"
    );
}

#[test]
fn a_body_keeps_its_framing() {
    let (server, seen) = server(OK);
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    connection
        .exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        .expect("an answer");
    connection
        .exchange("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .expect("an answer");
    connection
        .exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .expect("an answer");
    let seen = seen.lock().expect("no holder panics").clone();
    assert_eq!(seen[0].header("content-length"), Some("5"));
    assert_eq!(seen[0].header("transfer-encoding"), None);
    assert_eq!(seen[1].header("transfer-encoding"), Some("chunked"));
    assert_eq!(seen[1].header("content-length"), None);
    assert_eq!(seen[2].header("content-length"), Some("0"));
    assert!(seen[..2].iter().all(|request| request.body == b"hello"));
}

#[test]
fn responses_without_a_body_have_none_and_keep_their_headers() {
    let cases = [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n",
            200,
            Some("5"),
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nETag: \"x\"\r\n\r\n",
            204,
            None,
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            304,
            None,
        ),
    ];
    let weir = Weir::run();
    for (method, response, status, length) in cases {
        let (server, _) = server(response);
        let mut connection = weir.http(server.addr());
        for _ in 0..2 {
            let answer = connection
                .exchange(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
                .expect("an answer");
            assert_eq!(answer.status(), status);
            assert_eq!(
                answer.header("content-length"),
                length,
                "{method} {status}: {answer:?}"
            );
            assert_eq!(
                answer.header("transfer-encoding"),
                None,
                "{method} {status}: {answer:?}"
            );
            assert_eq!(answer.header("etag"), Some("\"x\""));
        }
    }
}

#[test]
fn a_body_that_lasts_to_the_end_of_the_connection_is_whole() {
    let server = Server::start(|stream, _| {
        let mut connection = e2e::http1::Connection::over(stream);
        drop(connection.request());
        drop(connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end"));
    });
    let weir = Weir::run();
    let answer = weir.http(server.addr()).get("a", "/").expect("an answer");
    assert_eq!(answer.text(), "to the end");
}

#[test]
fn an_old_client_gets_no_chunks() {
    let (server, _) =
        server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let weir = Weir::run();
    let answer = weir
        .http(server.addr())
        .exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        .expect("an answer");
    assert_eq!(answer.header("transfer-encoding"), None, "{answer:?}");
    assert_eq!(answer.text(), "ok");
}

#[test]
fn options_for_the_whole_server_stays_an_asterisk() {
    let (server, seen) = server(OK);
    let weir = Weir::run();
    weir.http(server.addr())
        .exchange("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("an answer");
    assert_eq!(only(&seen).start, "OPTIONS * HTTP/1.1");
}

#[test]
fn an_absolute_target_reaches_the_server_it_names() {
    let (server, seen) = server(OK);
    let weir = Weir::run();
    let request = format!(
        "GET http://{}/path?q HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.addr(),
        server.addr()
    );
    weir.http(server.addr())
        .exchange(request)
        .expect("an answer");
    let start = only(&seen).start;
    assert!(
        start == "GET /path?q HTTP/1.1" || start.contains(&server.addr().to_string()),
        "{start}"
    );
}
