//! What is neither HTTP nor readable passes byte for byte, whoever speaks first.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use e2e::origin::Origin;
use e2e::scripted::{self, Server};
use e2e::wait;
use e2e::weir::Weir;
use tokio::time::Instant;

/// How long the first bytes of the server take from the moment of connecting.
fn greeting_after(weir: &Weir, origin: &Origin) -> Duration {
    let begun = Instant::now();
    let mut stream = weir.connect(origin.addr());
    let mut bytes = [0; 13];
    stream.read_exact(&mut bytes).expect("a greeting");
    assert_eq!(&bytes, b"220 at work\r\n");
    begun.elapsed()
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let weir = Weir::run();
    // The machine may be busy: the quickest of three new destinations counts, and of three known ones.
    let mut first = Vec::new();
    let mut later = Vec::new();
    for _ in 0..3 {
        let origin = Origin::start(&["--banner", "220 at work"]);
        first.push(greeting_after(&weir, &origin));
        later.push(greeting_after(&weir, &origin));
    }
    assert!(
        first.iter().min() < Some(&Duration::from_millis(50)),
        "{first:?}"
    );
    assert!(
        later.iter().min() < Some(&Duration::from_millis(50)),
        "{later:?}"
    );
}

#[test]
fn a_server_that_greets_late_is_heard_then_and_its_next_client_too() {
    let server = Server::start(|mut stream, _| {
        std::thread::sleep(Duration::from_millis(400));
        drop(stream.write_all(b"hello"));
        drop(stream.read(&mut [0; 1]));
    });
    let weir = Weir::run();
    for _ in 0..2 {
        let begun = Instant::now();
        let mut stream = weir.connect(server.addr());
        stream.read_exact(&mut [0; 5]).expect("a greeting");
        let after = begun.elapsed();
        assert!(after < Duration::from_millis(400 + 150), "{after:?}");
    }
}

#[test]
fn a_conversation_begun_by_the_server_goes_on() {
    let origin = Origin::start(&["--banner", "220 at work"]);
    let weir = Weir::run();
    let mut stream = weir.connect(origin.addr());
    stream.read_exact(&mut [0; 13]).expect("a greeting");
    stream
        .write_all(b"GET like HTTP, but not HTTP\r\n")
        .expect("weir reads");
    let mut echo = [0; 29];
    stream.read_exact(&mut echo).expect("an echo");
    assert_eq!(&echo, b"GET like HTTP, but not HTTP\r\n");
}

/// A server that reads to the end and then answers with what it read.
fn after_the_end() -> Server {
    Server::start(|mut stream, _| {
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        drop(stream.write_all(&bytes));
    })
}

#[test]
fn each_direction_ends_on_its_own() {
    let server = after_the_end();
    let weir = Weir::run();
    let mut stream = weir.connect(server.addr());
    stream.write_all(b"\x00\x01 all of it").expect("weir reads");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .expect("the answer after our end");
    assert_eq!(bytes, b"\x00\x01 all of it");
}

#[test]
fn the_servers_end_leaves_the_clients_direction_open() {
    let (tell, told) = mpsc::sync_channel(1);
    let server = Server::start(move |mut stream, _| {
        drop(stream.write_all(b"done"));
        drop(stream.shutdown(Shutdown::Write));
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        tell.send(bytes).expect("the test listens");
    });
    let weir = Weir::run();
    let mut stream = weir.connect(server.addr());
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the server's end");
    assert_eq!(bytes, b"done");
    stream
        .write_all(b"still here")
        .expect("our direction is open");
    drop(stream);
    assert_eq!(
        told.recv_timeout(wait::LONG).expect("the server read on"),
        b"still here"
    );
}

#[test]
fn a_reset_by_the_server_is_a_reset() {
    let server = Server::start(|mut stream, _| {
        drop(stream.read(&mut [0; 4]));
        scripted::reset(stream);
    });
    let weir = Weir::run();
    let mut stream = weir.connect(server.addr());
    stream.write_all(b"\x00\x01\x02\x03").expect("weir reads");
    let error = stream.read(&mut [0; 4]).expect_err("a reset, not an end");
    assert!(scripted::is_reset(&error), "{error}");
}

#[test]
fn a_reset_by_the_client_is_a_reset() {
    let (tell, told) = mpsc::sync_channel(1);
    let server = Server::start(move |mut stream, _| {
        let mut bytes = [0; 4];
        drop(stream.read_exact(&mut bytes));
        drop(stream.set_read_timeout(Some(wait::LONG)));
        let read = stream
            .read(&mut bytes)
            .map_err(|error| scripted::is_reset(&error));
        tell.send(read).expect("the test listens");
    });
    let weir = Weir::run();
    let mut stream = weir.connect(server.addr());
    stream.write_all(b"\x00\x01\x02\x03").expect("weir reads");
    // The bytes are on their way before the reset throws them away.
    std::thread::sleep(Duration::from_millis(100));
    scripted::reset(stream);
    assert_eq!(
        told.recv_timeout(wait::LONG).expect("the server was told"),
        Err(true)
    );
}

#[test]
fn an_unreachable_server_is_a_reset() {
    let weir = Weir::run();
    let mut stream = weir.connect(scripted::closed_addr());
    // The reset may come before or after our bytes do.
    drop(stream.write_all(b"\x00\x01\x02\x03"));
    let error = stream.read(&mut [0; 4]).expect_err("a reset, not an end");
    assert!(scripted::is_reset(&error), "{error}");
}

#[test]
fn many_bytes_pass_both_ways_at_once_unchanged() {
    let server = Server::start(|stream, _| {
        let mut reader = stream.try_clone().expect("a descriptor is left");
        let mut writer = stream;
        drop(std::io::copy(&mut reader, &mut writer));
        drop(writer.shutdown(Shutdown::Write));
    });
    let weir = Weir::run();
    let stream = weir.connect(server.addr());
    let mut random = fastrand::Rng::with_seed(7);
    let mut sent = vec![0; 8 * 1024 * 1024];
    random.fill(&mut sent);
    // No protocol that is looked for starts like this.
    sent[0] = 0;
    let mut writer = stream.try_clone().expect("a descriptor is left");
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).expect("weir reads");
        writer.shutdown(Shutdown::Write).expect("open");
    });
    let mut got = Vec::new();
    let mut reader: TcpStream = stream;
    reader.read_to_end(&mut got).expect("all of it");
    writing.join().expect("no panic");
    assert!(
        got == sent,
        "{} of {} bytes, or changed ones",
        got.len(),
        sent.len()
    );
}

/// A TLS 1.2 ClientHello with a server name and nothing else of interest.
fn client_hello(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let sixteen = |number: usize| u16::try_from(number).expect("small").to_be_bytes();
    let mut list = vec![0];
    list.extend(sixteen(name.len()));
    list.extend_from_slice(name);
    let mut extension = vec![0, 0];
    extension.extend(sixteen(list.len() + 2));
    extension.extend(sixteen(list.len()));
    extension.extend(list);
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
    hello.extend(sixteen(extension.len()));
    hello.extend(extension);
    let mut message = vec![1, 0];
    message.extend(sixteen(hello.len()));
    message.extend(hello);
    let mut record = vec![0x16, 3, 1];
    record.extend(sixteen(message.len()));
    record.extend(message);
    record
}

#[test]
fn tls_is_forwarded_as_it_is() {
    let server = after_the_end();
    let weir = Weir::run();
    let hello = client_hello("shop.example");
    let mut stream = weir.connect(server.addr());
    // In two pieces: a ClientHello need not come at once.
    stream.write_all(&hello[..20]).expect("weir reads");
    std::thread::sleep(Duration::from_millis(30));
    stream.write_all(&hello[20..]).expect("weir reads");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the answer");
    assert_eq!(bytes, hello);
}

#[test]
fn a_request_that_dribbles_in_is_still_http() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let mut connection = weir.http(origin.addr());
    for part in ["G", "ET /ec", "ho HTTP/1.1\r\nHo", "st: a\r\n", "\r\n"] {
        connection.send(part).expect("weir reads");
        std::thread::sleep(Duration::from_millis(30));
    }
    let echo = connection.response(false).expect("an answer").json();
    assert!(
        !e2e::origin::header(&echo, "x-request-id").is_empty(),
        "not taken for HTTP: {echo}"
    );
}

#[test]
fn a_client_that_says_nothing_costs_nothing_but_its_connection() {
    let server = Server::start(|mut stream, _| drop(stream.read(&mut [0; 1])));
    let weir = Weir::run();
    let stream = weir.connect(server.addr());
    std::thread::sleep(Duration::from_millis(300));
    drop(stream);
    wait::until_true("the connection to be gone", wait::LONG, || {
        weir.read("/v1/connections")
            .to_string()
            .matches("\"destination\"")
            .count()
            == 0
    });
}
