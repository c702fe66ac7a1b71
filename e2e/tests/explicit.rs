//! The explicit proxy of `weir proxy`, for applications that may not be redirected: absolute targets and CONNECT.

use std::io::{Read, Write};
use std::process::Command;

use e2e::http1::{self, Connection};
use e2e::origin::{Origin, header};
use e2e::scripted::{self, Server};
use e2e::weir::Weir;
use e2e::{binaries, process, wait};

#[test]
fn an_absolute_target_is_a_call_like_any_other() {
    let origin = Origin::start(&[]);
    let weir = Weir::builder().proxy();
    let mut connection = Connection::open(weir.explicit()).expect("it listens");
    for _ in 0..2 {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\r\n",
            origin.url("/echo?q"),
            origin.addr()
        );
        let answer = connection.exchange(request).expect("an answer");
        let echo = answer.json();
        assert_eq!(echo["target"], "/echo?q");
        assert_eq!(header(&echo, "host"), origin.addr().to_string());
        assert_eq!(
            answer.header("x-request-id"),
            Some(header(&echo, "x-request-id"))
        );
        assert!(
            header(&echo, "proxy-connection").is_empty()
                && header(&echo, "proxy-authorization").is_empty()
        );
    }
}

#[test]
fn calls_to_different_servers_go_over_one_connection() {
    let weir = Weir::builder().proxy();
    let mut connection = Connection::open(weir.explicit()).expect("it listens");
    let servers: Vec<Server> = (0..3)
        .map(|number| {
            Server::http(move |_| {
                format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}").into_bytes()
            })
        })
        .collect();
    for (number, server) in servers.iter().enumerate() {
        let request = format!(
            "GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n",
            server.addr()
        );
        assert_eq!(
            connection.exchange(request).expect("an answer").text(),
            number.to_string()
        );
    }
}

#[test]
fn a_name_is_resolved() {
    let origin = Origin::start(&[]);
    let weir = Weir::builder().proxy();
    let host = format!("localhost:{}", origin.addr().port());
    let mut connection = Connection::open(weir.explicit()).expect("it listens");
    let request = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(
        connection.exchange(request).expect("an answer").status(),
        200
    );
}

#[test]
fn connect_opens_a_tunnel() {
    let origin = Origin::start(&["--banner", "220 at work"]);
    let weir = Weir::builder().proxy();
    let mut connection = Connection::open(weir.explicit()).expect("it listens");
    connection
        .send(format!(
            "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n",
            origin.addr()
        ))
        .expect("it reads");
    let head = connection.head().expect("an answer");
    assert_eq!(head.status(), 200);
    assert!(
        head.header("content-length").is_none() && head.header("transfer-encoding").is_none(),
        "{head:?}"
    );
    assert_eq!(connection.take(13).expect("a greeting"), b"220 at work\r\n");
    connection.send("ping").expect("it reads");
    assert_eq!(connection.take(4).expect("an echo"), b"ping");
    connection
        .stream()
        .shutdown(std::net::Shutdown::Write)
        .expect("open");
    assert!(connection.to_end().expect("an end").is_empty());
}

#[test]
fn http_within_a_tunnel_is_seen_as_such() {
    let origin = Origin::start(&[]);
    let weir = Weir::builder().proxy();
    let mut connection = Connection::open(weir.explicit()).expect("it listens");
    connection
        .send(format!(
            "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n",
            origin.addr()
        ))
        .expect("it reads");
    assert_eq!(connection.head().expect("an answer").status(), 200);
    let echo = connection.get("a", "/echo").expect("an answer").json();
    assert_eq!(echo["method"], "GET");
}

#[test]
fn what_cannot_be_reached_is_a_502() {
    let weir = Weir::builder().proxy();
    let addr = scripted::closed_addr();
    for request in [
        format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
        format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
        "GET http://no.such.name.invalid/ HTTP/1.1\r\nHost: no.such.name.invalid\r\n\r\n"
            .to_owned(),
    ] {
        let answer = Connection::open(weir.explicit())
            .expect("it listens")
            .exchange(&request)
            .expect("an answer");
        assert_eq!(answer.status(), 502, "{request}: {answer:?}");
    }
}

#[test]
fn a_request_without_a_server_is_refused() {
    let weir = Weir::builder().proxy();
    let mut connection = Connection::open(weir.explicit()).expect("it listens");
    let answer = connection
        .exchange("GET /path HTTP/1.1\r\nHost: \r\n\r\n")
        .expect("an answer");
    assert_eq!(answer.status(), 400);
}

#[test]
fn a_call_to_weir_itself_is_no_loop() {
    let weir = Weir::builder().proxy();
    for own in [weir.explicit(), weir.outbound()] {
        let mut connection = Connection::open(weir.explicit()).expect("it listens");
        let request = format!("GET http://{own}/ HTTP/1.1\r\nHost: {own}\r\n\r\n");
        let begun = tokio::time::Instant::now();
        let answer = connection.exchange(request).expect("an answer");
        assert!(
            [400, 403, 421, 502, 508].contains(&answer.status()),
            "{answer:?}"
        );
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }
}

#[test]
fn a_connection_that_was_not_redirected_is_refused() {
    let weir = Weir::builder().proxy();
    let mut stream = std::net::TcpStream::connect(weir.outbound()).expect("it listens");
    stream.set_read_timeout(Some(wait::LONG)).expect("not zero");
    drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    let mut bytes = Vec::new();
    // A reset is as good as an end.
    drop(stream.read_to_end(&mut bytes));
    assert!(
        !bytes.starts_with(b"HTTP/1.1 2"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    assert_eq!(
        http1::get(weir.admin(), "/livez")
            .expect("weir lives on")
            .status(),
        200
    );
}

#[test]
fn the_demos_client_uses_the_proxy_that_its_environment_names() {
    let origin = Origin::start(&[]);
    let mut command = Command::new(binaries::weir());
    command
        .args(["run", "--proxy-env", "--"])
        .arg(binaries::weir());
    command.args([
        "demo-client",
        "--proxy-env",
        "--rate",
        "20",
        "--seconds",
        "1",
    ]);
    command.args(["--target", &origin.addr().to_string()]);
    let done = process::run(&mut command, wait::LONG);
    assert!(done.status.success(), "{done:?}");
    let calls = origin.records();
    assert!(!calls.is_empty(), "{done:?}");
    for call in calls {
        assert!(!header(&call, "x-request-id").is_empty(), "{call}");
    }
}
