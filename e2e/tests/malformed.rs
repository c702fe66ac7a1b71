//! Bytes that are not what they claim: a 400 or a closed connection, never a guess, and the rest goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::frames::{Frame, PREFACE, flag, hpack, kind};
use e2e::origin::Origin;
use e2e::scripted::Server;
use e2e::weir::Weir;
use e2e::{h2c, procfs};

/// Requests that no proxy may pass on.
const MALFORMED: &[(&str, &[u8])] = &[
    ("both lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ("a list of lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello"),
    ("a negative length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello"),
    ("a length with a plus", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
    ("a hexadecimal length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello"),
    ("a huge length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nhello"),
    ("a coding that is not chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
    ("chunked not last", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("chunked twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("a coding in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a folded line", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n"),
    ("a space before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n"),
    ("a leading space", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("a bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n"),
    ("a NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n"),
    ("a NUL in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n"),
    ("no name", b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("a host that is none", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("no host", b"GET / HTTP/1.1\r\nX-A: b\r\n\r\n"),
    ("a host in the target only", b"GET http://a/ HTTP/1.1\r\nX-A: b\r\n\r\n"),
];

/// Request lines that are none: no HTTP, so they pass as the bytes they are, with nothing read into them.
const NOT_HTTP: &[&[u8]] = &[
    b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\xff\xfe\r\n\r\n",
];

/// Bodies whose chunks are broken: the head was right, so it may have been passed on, but never the rest.
const BROKEN_CHUNKS: &[(&str, &[u8])] = &[
    ("no number", b"zz\r\nhello\r\n0\r\n\r\n"),
    ("a negative number", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("a prefix", b"0x5\r\nhello\r\n0\r\n\r\n"),
    (
        "too large a number",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ),
    ("more bytes than said", b"3\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF", b"5\nhello\n0\n\n"),
];

/// What a connection answers, to its end or to the timeout.
fn answer_to(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("not zero");
    // It may be closed while we still write: that is an answer, too.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..count]);
        if answer.starts_with(b"HTTP/1.1 4") {
            break;
        }
    }
    answer
}

#[test]
fn a_malformed_request_is_refused_and_never_passed_on() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let server = Server::http(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let mut weir = Weir::run();
    let mut failures = Vec::new();
    for (name, bytes) in MALFORMED {
        reached.store(0, Ordering::SeqCst);
        let answer = answer_to(weir.connect(server.addr()), bytes);
        let refused = answer.is_empty()
            || answer.starts_with(b"HTTP/1.1 4")
            || answer.starts_with(b"HTTP/1.0 4");
        let passed_on = reached.load(Ordering::SeqCst);
        if !refused || passed_on > 0 {
            let text = String::from_utf8_lossy(&answer).into_owned();
            failures.push(format!(
                "{name}: passed on {passed_on} times, answered {text:?}"
            ));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(
        weir.http(server.addr())
            .get("a", "/")
            .expect("weir lives on")
            .text(),
        "ok"
    );
    let log = weir.process().output();
    for kind in ["length_and_coding", "folded_field", "syntax"] {
        assert!(log.contains(kind), "the log does not say {kind}: {log}");
    }
}

#[test]
fn what_is_no_http_passes_byte_for_byte_or_not_at_all() {
    let server = Server::start(|mut stream, _| {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).unwrap_or(0);
        drop(stream.write_all(&bytes[..count]));
    });
    let weir = Weir::run();
    for bytes in NOT_HTTP {
        let answer = answer_to(weir.connect(server.addr()), bytes);
        let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
        assert!(
            refused || answer == *bytes,
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}

#[test]
fn broken_chunks_never_reach_the_server_as_a_whole_request() {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&whole);
    let server = Server::http(move |request| {
        if request.start.starts_with("POST") {
            count.fetch_add(1, Ordering::SeqCst);
        }
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let weir = Weir::run();
    for (name, chunks) in BROKEN_CHUNKS {
        let mut bytes =
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        bytes.extend_from_slice(chunks);
        let answer = answer_to(weir.connect(server.addr()), &bytes);
        assert!(
            !answer.starts_with(b"HTTP/1.1 2"),
            "{name}: {}",
            String::from_utf8_lossy(&answer)
        );
        assert_eq!(
            whole.load(Ordering::SeqCst),
            0,
            "{name}: passed on as a whole request"
        );
    }
    assert_eq!(
        weir.http(server.addr())
            .get("a", "/")
            .expect("weir lives on")
            .text(),
        "ok"
    );
}

#[test]
fn a_malformed_response_is_a_502() {
    let responses: &[(&str, &str)] = &[
        (
            "both lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        ),
        ("no status", "HTTP/1.1\r\n\r\n"),
        ("no HTTP", "hello, this is no HTTP at all\r\n\r\n"),
        (
            "a NUL",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: a\0b\r\n\r\nok",
        ),
        (
            "a folded line",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: a\r\n b\r\n\r\nok",
        ),
    ];
    let weir = Weir::run();
    let mut failures = Vec::new();
    for (name, response) in responses {
        let server = Server::http(move |_| response.as_bytes().to_vec());
        match weir.http(server.addr()).get("a", "/") {
            Ok(answer) if answer.status() == 502 => {}
            other => failures.push(format!("{name}: {other:?}")),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Streams that break HTTP/2, after the preface and an empty SETTINGS.
fn broken_streams() -> Vec<(&'static str, Vec<u8>)> {
    let frame =
        |kind, flags, stream, payload: &[u8]| Frame::new(kind, flags, stream, payload).bytes();
    let mut oversized = frame(kind::DATA, 0, 1, &[]);
    oversized[..3].copy_from_slice(&[0xff, 0xff, 0xff]);
    vec![
        ("DATA on stream 0", frame(kind::DATA, 0, 0, b"x")),
        ("DATA on an idle stream", frame(kind::DATA, 0, 5, b"x")),
        (
            "HEADERS on stream 0",
            frame(
                kind::HEADERS,
                flag::END_HEADERS,
                0,
                &hpack(&[(":method", "GET")]),
            ),
        ),
        ("HEADERS on an even stream", Frame::get(2, "a").bytes()),
        (
            "a header block that is none",
            frame(kind::HEADERS, flag::END_HEADERS | 1, 1, &[0xff; 20]),
        ),
        ("a frame above the size limit", oversized),
        ("SETTINGS on a stream", frame(kind::SETTINGS, 0, 1, &[])),
        (
            "SETTINGS of a wrong length",
            frame(kind::SETTINGS, 0, 0, &[0; 5]),
        ),
        ("a PING of a wrong length", frame(kind::PING, 0, 0, &[0; 4])),
        (
            "a WINDOW_UPDATE of zero",
            frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
        ),
        ("RST_STREAM of an idle stream", Frame::reset(1, 8).bytes()),
        (
            "CONTINUATION out of nowhere",
            frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[]),
        ),
        (
            "stream ids that fall",
            [Frame::get(5, "a").bytes(), Frame::get(3, "a").bytes()].concat(),
        ),
    ]
}

#[test]
fn broken_http2_ends_the_connection_and_nothing_else() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let mut failures = Vec::new();
    for (name, bytes) in broken_streams() {
        let mut stream = weir.connect(origin.addr());
        stream
            .set_read_timeout(Some(Duration::from_secs(3)))
            .expect("not zero");
        let all = [PREFACE, &Frame::settings().bytes(), &bytes].concat();
        drop(stream.write_all(&all));
        loop {
            match Frame::read(&mut stream) {
                Ok(frame) if frame.kind == kind::GOAWAY && frame.code() != 0 => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    failures.push(name);
                    break;
                }
                // Closed without a word: rude, but closed.
                Err(_) => break,
            }
        }
    }
    assert!(
        failures.is_empty(),
        "the connection stays open: {failures:#?}"
    );
    assert_eq!(
        weir.http(origin.addr())
            .get("a", "/")
            .expect("weir lives on")
            .text(),
        "ok"
    );
}

/// Sends the same bytes again and again until weir closes the connection; answers with how many were taken, in MiB.
fn flood(
    weir: &Weir,
    origin: &Origin,
    first: &[u8],
    mut again: impl FnMut(u32) -> Vec<u8>,
) -> Option<u64> {
    let mut stream = weir.connect(origin.addr());
    stream
        .set_write_timeout(Some(Duration::from_secs(3)))
        .expect("not zero");
    let mut reader = stream.try_clone().expect("a descriptor is left");
    std::thread::spawn(move || drop(std::io::copy(&mut reader, &mut std::io::sink())));
    drop(stream.write_all(&[PREFACE, &Frame::settings().bytes(), first].concat()));
    let mut sent = 0;
    for number in 0..200_000 {
        let bytes = again(number);
        sent += bytes.len() as u64;
        if stream.write_all(&bytes).is_err() {
            return Some(sent / (1024 * 1024));
        }
    }
    None
}

#[test]
fn a_continuation_flood_is_cut_off() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let before = procfs::rss_kib(weir.id());
    let first = Frame::new(kind::HEADERS, 1, 1, hpack(&[(":method", "GET")])).bytes();
    let filler = "v".repeat(4_000);
    let cut = flood(&weir, &origin, &first, |_| {
        Frame::new(kind::CONTINUATION, 0, 1, hpack(&[("x-more", &filler)])).bytes()
    });
    assert!(
        cut.is_some_and(|mib| mib < 64),
        "weir read them all: {cut:?}"
    );
    let grown = procfs::rss_kib(weir.id()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    assert_eq!(
        weir.http(origin.addr())
            .get("a", "/")
            .expect("weir lives on")
            .text(),
        "ok"
    );
}

#[test]
fn rapid_resets_are_cut_off_and_cost_the_server_little() {
    let origin = Origin::start(&["--service-ms", "50"]);
    let weir = Weir::run();
    let cut = flood(&weir, &origin, &[], |number| {
        let stream = number * 2 + 1;
        [
            Frame::get(stream, "a").bytes(),
            Frame::reset(stream, 8).bytes(),
        ]
        .concat()
    });
    assert!(cut.is_some(), "weir took 200,000 resets");
    let answer = weir
        .http(origin.addr())
        .get("a", "/")
        .expect("weir lives on");
    assert_eq!(answer.text(), "ok");
    assert_eq!(weir.sum("inFlight"), 0);
}

#[tokio::test]
async fn http2_headers_above_the_limit_are_refused() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let client = h2c::Client::open(weir.connect(origin.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let big = "b".repeat(100_000);
    match client
        .call(
            h2c::request("GET", origin.addr(), "/", &[("x-big", &big)]),
            "",
        )
        .await
    {
        Ok(reply) => assert_eq!(reply.status(), 431),
        Err(error) => assert!(error.reason().is_some(), "{error}"),
    }
    assert_eq!(
        weir.http(origin.addr())
            .get("a", "/")
            .expect("weir lives on")
            .text(),
        "ok"
    );
}
