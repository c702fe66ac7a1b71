//! Clients that leave while they wait give back what they held; those that have only finished sending are still answered.

use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use e2e::http1::Connection;
use e2e::origin::Origin;
use e2e::scripted::Server;
use e2e::weir::Weir;
use e2e::{binaries, process, wait};
use nix::sys::signal::Signal;

/// Longest time for which a client that has gone may be in flight.
const SOON: Duration = Duration::from_secs(2);

/// A server that never answers. It calls `asked` when it has read a request.
fn silent(asked: impl Fn() + Send + Sync + 'static) -> Server {
    Server::start(move |stream, _| {
        let mut connection = Connection::over(stream);
        if connection.request().is_ok() {
            asked();
        }
        // Until nobody waits any more.
        drop(connection.to_end());
    })
}

fn in_flight(weir: &Weir) -> u64 {
    weir.sum("inFlight")
}

#[test]
fn a_client_killed_right_after_its_request_gives_its_permit_back() {
    let weir = Weir::run();
    let id_file = weir.folder().join("client");
    let known = id_file.clone();
    let server = silent(move || {
        std::thread::sleep(Duration::from_millis(5));
        let id = std::fs::read_to_string(&known).expect("the client has told");
        process::send(id.trim().parse().expect("a process id"), Signal::SIGKILL);
    });
    let script = format!(
        "echo $$ > {}; exec {} http://{}/ --closed --connections 1 --seconds 10",
        id_file.display(),
        binaries::peer("e2e-load").display(),
        server.addr()
    );
    let ended = weir.inside().exec(&["sh", "-c", &script]);
    assert_eq!(ended.code, None, "it was not killed: {ended:?}");
    assert_eq!(server.accepted(), 1);
    wait::until_true("the permit to come back", SOON, || in_flight(&weir) == 0);
}

#[test]
fn a_client_that_closes_right_after_its_request_gives_its_permit_back() {
    let weir = Weir::builder().proxy();
    for through in [absolute, tunnelled] {
        let server = silent(|| {});
        let client = through(&weir, server.addr(), "/");
        wait::until_true("the call to be in flight", wait::LONG, || {
            in_flight(&weir) == 1
        });
        drop(client);
        wait::until_true("the permit to come back", SOON, || in_flight(&weir) == 0);
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_half_closed_gives_its_permit_back() {
    let weir = Weir::run();
    let server = silent(|| {});
    let mut client = intercepted(&weir, server.addr(), "/");
    finish_sending(&mut client);
    wait::until_true("the call to be in flight", wait::LONG, || {
        in_flight(&weir) == 1
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(in_flight(&weir), 1, "its client still waits");
    drop(client);
    wait::until_true("the permit to come back", SOON, || in_flight(&weir) == 0);
}

#[test]
fn a_client_that_has_only_finished_sending_gets_its_answer() {
    let origin = Origin::start(&[]);
    let inside = Weir::run();
    let explicit = Weir::builder().proxy();
    let ways: [(&Weir, Through); 3] = [
        (&inside, intercepted),
        (&explicit, absolute),
        (&explicit, tunnelled),
    ];
    for (weir, through) in ways {
        for delay in [Duration::ZERO, Duration::from_millis(500)] {
            let mut client = through(weir, origin.addr(), "/delay/1200");
            std::thread::sleep(delay);
            finish_sending(&mut client);
            let answer = client.response(false).expect("an answer");
            assert_eq!(answer.status(), 200, "{delay:?}: {answer:?}");
        }
    }
}

/// How a client sends a request for a path to a server.
type Through = fn(&Weir, SocketAddr, &str) -> Connection;

fn finish_sending(client: &mut Connection) {
    let stream = client.stream();
    stream.shutdown(Shutdown::Write).expect("it is connected");
}

/// A client that was redirected, and has sent its request.
fn intercepted(weir: &Weir, server: SocketAddr, path: &str) -> Connection {
    let mut client = weir.http(server);
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send(request).expect("weir reads");
    client
}

/// One that uses the explicit proxy.
fn absolute(weir: &Weir, server: SocketAddr, path: &str) -> Connection {
    let mut client = Connection::open(weir.explicit()).expect("it listens");
    let request = format!("GET http://{server}{path} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    client.send(request).expect("weir reads");
    client
}

/// One that uses a tunnel of the explicit proxy.
fn tunnelled(weir: &Weir, server: SocketAddr, path: &str) -> Connection {
    let mut client = Connection::open(weir.explicit()).expect("it listens");
    let connect = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    client.send(connect).expect("weir reads");
    assert_eq!(client.response(true).expect("an answer").status(), 200);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    client.send(request).expect("weir reads");
    client
}
