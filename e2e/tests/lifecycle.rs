//! Ends and shortages: draining, a second signal, too few descriptors, and peers that are killed.

use std::time::Duration;

use e2e::http1::{self, Connection};
use e2e::origin::Origin;
use e2e::process;
use e2e::scripted::Server;
use e2e::wait;
use e2e::weir::Weir;
use nix::sys::signal::Signal;
use tokio::time::Instant;

/// A call through the explicit proxy.
fn request(origin: &Origin, path: &str) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
        origin.url(path),
        origin.addr()
    )
}

fn proxied(weir: &Weir) -> Connection {
    Connection::open(weir.explicit()).expect("weir listens")
}

#[test]
fn a_call_in_flight_outlives_the_signal_to_stop() {
    let origin = Origin::start(&[]);
    let mut weir = Weir::builder().env("WEIR_DRAIN_TIME", "10s").proxy();
    let mut connection = proxied(&weir);
    connection
        .send(request(&origin, "/delay/700"))
        .expect("weir reads");
    wait::until_true("the call to be in flight", wait::LONG, || {
        origin.calls() == 1
    });
    weir.process().signal(Signal::SIGTERM);
    let admin = weir.admin();
    wait::until_true("not to be ready", wait::LONG, || {
        http1::get(admin, "/readyz").map_or(true, |answer| answer.status() == 503)
    });
    assert_eq!(connection.response(false).expect("an answer").status(), 200);
    drop(connection);
    assert_eq!(weir.process().wait(wait::LONG).code(), Some(0));
}

#[test]
fn outbound_calls_go_on_while_the_application_finishes() {
    let origin = Origin::start(&[]);
    let mut weir = Weir::builder().env("WEIR_DRAIN_TIME", "10s").proxy();
    // The application is still there as long as it has a connection with a call on it.
    let mut long = proxied(&weir);
    long.send(request(&origin, "/delay/1500"))
        .expect("weir reads");
    wait::until_true("the call to be in flight", wait::LONG, || {
        origin.calls() == 1
    });
    weir.process().signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    let answer = proxied(&weir)
        .exchange(request(&origin, "/"))
        .expect("a new call is served");
    assert_eq!(answer.status(), 200);
    assert_eq!(long.response(false).expect("an answer").status(), 200);
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::start(&[]);
    let mut weir = Weir::builder().env("WEIR_DRAIN_TIME", "60s").proxy();
    let mut connection = proxied(&weir);
    connection
        .send(request(&origin, "/delay/60000"))
        .expect("weir reads");
    wait::until_true("the call to be in flight", wait::LONG, || {
        origin.calls() == 1
    });
    weir.process().signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    assert!(weir.process().is_running(), "it drains");
    let begun = Instant::now();
    weir.process().signal(Signal::SIGTERM);
    weir.process().wait(wait::LONG);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn the_drain_time_is_a_bound() {
    let origin = Origin::start(&[]);
    let mut weir = Weir::builder().env("WEIR_DRAIN_TIME", "500ms").proxy();
    let mut connection = proxied(&weir);
    connection
        .send(request(&origin, "/delay/60000"))
        .expect("weir reads");
    wait::until_true("the call to be in flight", wait::LONG, || {
        origin.calls() == 1
    });
    let begun = Instant::now();
    weir.process().signal(Signal::SIGTERM);
    weir.process().wait(wait::LONG);
    // After it, open calls have a few seconds more.
    let after = begun.elapsed();
    assert!(after < Duration::from_secs(10), "{after:?}");
}

#[test]
fn out_of_descriptors_it_stops_accepting_and_recovers() {
    let origin = Origin::start(&[]);
    let mut weir = Weir::builder().descriptors_max(60).proxy();
    let mut held = Vec::new();
    for _ in 0..120 {
        let Ok(mut connection) = Connection::open(weir.explicit()) else {
            break;
        };
        connection
            .stream()
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("not zero");
        // Some are served, some wait to be accepted.
        drop(connection.exchange(request(&origin, "/")));
        held.push(connection);
    }
    assert!(weir.process().is_running(), "{}", weir.process().output());
    drop(held);
    wait::until_true("calls to be served again", wait::LONG, || {
        let mut connection = proxied(&weir);
        connection
            .stream()
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("not zero");
        connection
            .exchange(request(&origin, "/"))
            .is_ok_and(|answer| answer.status() == 200)
    });
}

#[test]
fn killing_the_server_is_an_answer_and_its_return_is_noticed() {
    let mut origin = Origin::start(&[]);
    let addr = origin.addr();
    let weir = Weir::run();
    let mut connection = weir.http(addr);
    connection
        .send("GET /delay/60000 HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("weir reads");
    wait::until_true("the call to be in flight", wait::LONG, || {
        origin.calls() == 1
    });
    origin.process().kill();
    let answer = connection.response(false).expect("an answer");
    assert!([502, 503].contains(&answer.status()), "{answer:?}");
    let _again = Origin::start(&["--listen", &addr.to_string()]);
    wait::until_true("the server to be reached again", wait::LONG, || {
        weir.http(addr)
            .get("a", "/")
            .is_ok_and(|answer| answer.status() == 200)
    });
}

#[test]
fn killing_the_client_frees_the_server() {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let server = Server::start(move |stream, _| {
        let mut connection = Connection::over(stream);
        drop(connection.request());
        // The next thing that comes is the end of the connection.
        let ended = connection.head().is_err();
        tell.send(ended).expect("the test listens");
    });
    let weir = Weir::run();
    let mut connection = weir.http(server.addr());
    connection
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("weir reads");
    wait::until_true("the call to reach the server", wait::LONG, || {
        server.accepted() == 1
    });
    std::thread::sleep(Duration::from_millis(100));
    drop(connection);
    assert!(
        told.recv_timeout(Duration::from_secs(5))
            .expect("the server is told at once")
    );
}

#[test]
fn killed_it_fails_closed_and_leaves_what_a_new_one_can_use() {
    let origin = Origin::start(&[]);
    let mut weir = Weir::builder().proxy();
    let mut connection = proxied(&weir);
    connection
        .send(request(&origin, "/delay/60000"))
        .expect("weir reads");
    wait::until_true("the call to be in flight", wait::LONG, || {
        origin.calls() == 1
    });
    process::send(weir.id(), Signal::SIGKILL);
    weir.process().wait(wait::LONG);
    let begun = Instant::now();
    assert!(connection.response(false).is_err(), "the connection broke");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(
        weir.control().exists(),
        "the socket's file stays, as nobody removed it"
    );
    let state = weir.folder().display().to_string();
    let again = Weir::builder()
        .env("WEIR_CONTROL_SOCKET", format!("{state}/control.sock"))
        .env("WEIR_STATE_DIR", &state)
        .proxy();
    let answer = http1::unix(
        std::path::Path::new(&format!("{state}/control.sock")),
        "GET",
        "/v1/status",
        &[],
        "",
    );
    assert_eq!(answer.expect("the new one listens there").status(), 200);
    drop(again);
}

#[test]
fn the_last_good_policy_outlives_the_proxy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = || {
        Weir::builder()
            .env("WEIR_STATE_DIR", folder.path().display())
            .proxy()
    };
    let mut weir = start();
    let document = serde_json::json!({"version": "weir/v1", "defaults": {"deadline": "7s"}});
    assert_eq!(weir.put_policy(&document).status(), 200);
    process::send(weir.id(), Signal::SIGKILL);
    weir.process().wait(wait::LONG);
    assert_eq!(start().read("/v1/policy")["defaults"]["deadline"], "7s");
}
