//! HTTP/1.1 as it is spoken: keep-alive, chunks, trailers, interim responses, upgrades, flow control, limits.

use std::io::{Read, Write};
use std::time::Duration;

use e2e::http1::Connection;
use e2e::origin::Origin;
use e2e::scripted::Server;
use e2e::weir::Weir;
use e2e::{procfs, wait};

const MIB: usize = 1024 * 1024;

#[test]
fn calls_on_one_connection_use_one_connection() {
    let server = Server::http(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    for _ in 0..20 {
        assert_eq!(connection.get("a", "/").expect("an answer").text(), "ok");
    }
    assert!(
        server.accepted() <= 2,
        "{} connections for 20 calls in a row",
        server.accepted()
    );
}

#[test]
fn requests_sent_together_are_answered_in_order() {
    let server = Server::http(|request| {
        let path = request
            .start
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
            path.len()
        )
        .into_bytes()
    });
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    connection
        .send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("weir reads");
    for expected in ["/1", "/2", "/3"] {
        assert_eq!(
            connection.response(false).expect("an answer").text(),
            expected
        );
    }
}

#[test]
fn trailers_pass_in_both_directions() {
    let server = Server::http(|request| {
        let sum = request.trailer("x-sum").unwrap_or("absent").to_owned();
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
        format!("{head}2\r\nok\r\n0\r\nx-sum: {sum}\r\n\r\n").into_bytes()
    });
    let weir = Weir::run();
    let answer = weir
        .http(server.addr())
        .exchange(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n",
        )
        .expect("an answer");
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.trailer("x-sum"), Some("42"), "{answer:?}");
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_then_sends() {
    let server = Server::start(|stream, _| {
        let mut connection = Connection::over(stream);
        let Ok(mut request) = connection.head() else {
            return;
        };
        assert_eq!(
            request.header("expect"),
            Some("100-continue"),
            "{request:?}"
        );
        drop(connection.send("HTTP/1.1 100 Continue\r\n\r\n"));
        drop(connection.body(&mut request, false));
        let count = request.body.len();
        drop(connection.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{count}"
        )));
    });
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    connection
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .expect("weir reads");
    let interim = connection.head().expect("an interim response");
    assert_eq!(interim.status(), 100);
    connection.send("hello").expect("weir reads");
    assert_eq!(connection.response(false).expect("an answer").text(), "5");
}

#[test]
fn a_refusal_instead_of_100_reaches_the_client() {
    let server = Server::start(|stream, _| {
        let mut connection = Connection::over(stream);
        drop(connection.head());
        drop(connection.send(
            "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
        ));
    });
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    // weir may say 100 itself; a client that then sends its body still gets the refusal.
    connection.send(request).expect("weir reads");
    drop(connection.send("hello"));
    assert_eq!(connection.response(false).expect("an answer").status(), 417);
}

#[test]
fn early_hints_come_before_the_answer() {
    let server = Server::http(|_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let weir = Weir::run();
    let answer = weir.http(server.addr()).get("a", "/").expect("an answer");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let server = Server::start(|stream, _| {
        let mut connection = Connection::over(stream);
        let Ok(request) = connection.head() else {
            return;
        };
        assert_eq!(request.header("upgrade"), Some("websocket"));
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: x\r\n\r\n";
        drop(connection.send(format!("{head}welcome")));
        let Ok(bytes) = connection.take(5) else {
            return;
        };
        drop(connection.send(bytes));
        // The client's end arrives, and the last word can still be said.
        drop(connection.to_end());
        drop(connection.send("bye"));
    });
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    let answer = connection
        .exchange(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .expect("an answer");
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("sec-websocket-accept"), Some("x"));
    assert_eq!(connection.take(7).expect("the server speaks"), b"welcome");
    connection.send("12345").expect("weir reads");
    assert_eq!(connection.take(5).expect("an echo"), b"12345");
    connection
        .stream()
        .shutdown(std::net::Shutdown::Write)
        .expect("open");
    assert_eq!(connection.to_end().expect("the end"), b"bye");
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let server =
        Server::http(|_| b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno".to_vec());
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(
        connection.exchange(request).expect("an answer").status(),
        400
    );
    assert_eq!(
        connection
            .get("a", "/")
            .expect("the connection lives")
            .status(),
        400
    );
}

#[test]
fn headers_up_to_the_limit_pass_and_above_it_are_431() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let request = |bytes: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Big: {}\r\n\r\n",
            "b".repeat(bytes)
        )
    };
    assert_eq!(
        weir.http(origin.addr())
            .exchange(request(60_000))
            .expect("an answer")
            .status(),
        200
    );
    let mut connection = weir.http(origin.addr());
    assert_eq!(
        connection
            .exchange(request(70_000))
            .expect("an answer")
            .status(),
        431
    );
    assert_eq!(
        weir.http(origin.addr())
            .exchange(request(10))
            .expect("an answer")
            .status(),
        200
    );
}

#[test]
fn response_headers_above_the_limit_are_a_502() {
    let server = Server::http(|request| {
        let bytes = if request.start.contains("big") {
            70_000
        } else {
            60_000
        };
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Big: {}\r\n\r\n",
            "b".repeat(bytes)
        )
        .into_bytes()
    });
    let weir = Weir::run();
    assert_eq!(
        weir.http(server.addr())
            .get("a", "/")
            .expect("an answer")
            .status(),
        200
    );
    assert_eq!(
        weir.http(server.addr())
            .get("a", "/big")
            .expect("an answer")
            .status(),
        502
    );
}

#[test]
fn a_slow_reader_stops_a_fast_server() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    weir.http(origin.addr()).get("a", "/").expect("an answer");
    let before = procfs::rss_kib(weir.id());
    let mut connection = weir.http(origin.addr());
    let total = 200 * MIB;
    connection
        .send(format!("GET /bytes/{total} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .expect("weir reads");
    let head = connection.head().expect("a head");
    assert_eq!(
        head.header("content-length"),
        Some(total.to_string().as_str())
    );
    // The time that an unbounded buffer would fill in.
    std::thread::sleep(Duration::from_secs(1));
    let grown = procfs::rss_kib(weir.id()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more while nobody reads");
    let (mut stream, first) = connection.into_parts();
    let mut read = first.len();
    let mut bytes = vec![0; MIB];
    while read < total {
        match stream.read(&mut bytes).expect("the body goes on") {
            0 => break,
            count => read += count,
        }
    }
    assert_eq!(read, total);
    let grown = procfs::rss_kib(weir.id()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more after the body");
}

#[test]
fn a_slow_server_stops_a_fast_writer() {
    let server = Server::start(|stream, _| {
        let mut connection = Connection::over(stream);
        drop(connection.head());
        std::thread::sleep(wait::LONG);
    });
    let weir = Weir::run();
    let before = procfs::rss_kib(weir.id());
    let mut stream = weir.connect(server.addr());
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        .expect("weir reads");
    stream
        .set_write_timeout(Some(Duration::from_millis(700)))
        .expect("not zero");
    let chunk = vec![b'x'; MIB];
    let mut written = 0;
    while written < 100 && stream.write_all(&chunk).is_ok() {
        written += 1;
    }
    assert!(written < 40, "{written} MiB were taken that nobody wanted");
    let grown = procfs::rss_kib(weir.id()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
}
