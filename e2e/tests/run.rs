//! `weir run`: the application does not notice, and nothing is left behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use e2e::origin::{Origin, header};
use e2e::process::{self, Process};
use e2e::scripted::{self, Server};
use e2e::weir::{Weir, free_addr};
use e2e::{binaries, http1, procfs, wait};
use nix::sys::signal::Signal;

fn run(words: &[&str]) -> process::Finished {
    process::run(
        Command::new(binaries::weir())
            .arg("run")
            .arg("--")
            .args(words),
        wait::LONG,
    )
}

#[test]
fn exit_code_and_output_are_the_commands_own() {
    let done = run(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(done.status.code(), Some(7), "{done:?}");
    assert_eq!(done.stdout, "out\n", "{done:?}");
    assert!(done.stderr.lines().any(|line| line == "err"), "{done:?}");
}

#[test]
fn a_command_ended_by_a_signal_is_reported_as_a_shell_would() {
    let done = run(&["sh", "-c", "kill -KILL $$"]);
    assert_eq!(done.status.code(), Some(128 + 9), "{done:?}");
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    let done = run(&["/no/such/program"]);
    assert_eq!(done.status.code(), Some(127), "{done:?}");
    assert!(done.stderr.contains("/no/such/program"), "{done:?}");
}

#[test]
fn standard_input_reaches_the_command() {
    let mut child = Command::new(binaries::weir())
        .args(["run", "--", "cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("weir starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(b"hello")
        .expect("cat reads");
    let output = child.wait_with_output().expect("it ends with its input");
    assert_eq!(output.stdout, b"hello");
}

#[test]
fn the_command_keeps_its_user() {
    let ids = |done: process::Finished| done.stdout;
    let outside = process::run(Command::new("sh").args(["-c", "id -u; id -g"]), wait::LONG);
    assert_eq!(ids(run(&["sh", "-c", "id -u; id -g"])), ids(outside));
}

#[test]
fn an_ordinary_users_command_gets_no_capability() {
    if nix::unistd::geteuid().is_root() {
        println!("not asked: root has its capabilities already");
        return;
    }
    let done = run(&["grep", "CapEff", "/proc/self/status"]);
    assert_eq!(
        done.stdout.split_whitespace().nth(1),
        Some("0000000000000000"),
        "{done:?}"
    );
}

#[test]
fn a_signal_is_passed_on_to_the_command() {
    let script = "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.02; done";
    let mut weir = Process::spawn(
        "weir run",
        Command::new(binaries::weir()).args(["run", "--", "sh", "-c", script]),
    );
    weir.line_after("up", wait::LONG);
    weir.signal(Signal::SIGTERM);
    assert_eq!(weir.wait(wait::LONG).code(), Some(3), "{}", weir.output());
    assert!(weir.output().contains("got"));
}

#[test]
fn calls_to_all_kinds_of_addresses_are_intercepted() {
    let four = Origin::start(&[]);
    let six = Origin::start(&["--listen", "[::1]:0"]);
    let everywhere = Origin::start(&["--listen", "0.0.0.0:0"]);
    let weir = Weir::run();
    let mut addrs = vec![four.addr(), six.addr()];
    let named = weir
        .inside()
        .resolve(&format!("localhost:{}", four.addr().port()))
        .expect("localhost resolves");
    addrs.extend(named.into_iter().filter(SocketAddr::is_ipv4));
    // An address of this machine that is not loopback, where it has one.
    addrs.extend(own_addr().map(|ip| SocketAddr::new(ip, everywhere.addr().port())));
    for addr in addrs {
        let echo = weir
            .http(addr)
            .get(&addr.to_string(), "/echo")
            .expect("an answer")
            .json();
        assert!(
            !header(&echo, "x-request-id").is_empty(),
            "not intercepted: {addr}: {echo}"
        );
    }
}

/// The address that packets to the outside would come from; asking sends nothing.
fn own_addr() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn a_connection_to_weirs_own_port_is_refused() {
    let weir = Weir::run();
    let own = SocketAddr::from(([127, 0, 0, 1], 19401));
    let started = tokio::time::Instant::now();
    if let Ok(mut stream) = weir.inside().connect(own) {
        drop(stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        let answer = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "a loop takes its time"
    );
}

#[test]
fn udp_other_than_dns_fails_at_once() {
    let weir = Weir::run();
    let socket = weir
        .inside()
        .udp(SocketAddr::from(([0, 0, 0, 0], 0)))
        .expect("a UDP socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("not zero");
    let refused = socket
        .connect("192.0.2.1:443")
        .and_then(|()| socket.send(b"quic"))
        .and_then(|_| socket.recv(&mut [0; 16]));
    let error = refused.expect_err("nothing answers there");
    assert!(
        error.kind() != std::io::ErrorKind::WouldBlock,
        "it hangs instead: {error}"
    );
}

#[test]
fn a_published_port_is_reachable_from_outside() {
    let outside = free_addr();
    let weir = Weir::builder()
        .arg("--publish")
        .arg(&outside.port().to_string())
        .run();
    let listener = weir
        .inside()
        .bind(outside)
        .expect("the port is free inside");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut connection = http1::Connection::over(stream);
            drop(connection.request());
            drop(connection.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\ninside"));
        }
    });
    assert_eq!(
        http1::get(outside, "/").expect("an answer").text(),
        "inside"
    );
}

#[test]
fn killing_weir_takes_the_command_with_it() {
    let mut weir = Weir::run();
    let children = procfs::descendants(weir.id());
    assert!(!children.is_empty(), "the command is a child of weir");
    weir.process().signal(Signal::SIGKILL);
    weir.process().wait(wait::LONG);
    wait::until_true("the command to be gone", wait::LONG, || {
        children.iter().all(|id| !procfs::is_alive(*id))
    });
}

#[test]
fn killing_the_command_ends_weir() {
    let mut weir = Weir::run();
    let control = weir.control();
    process::send(command_of(&weir), Signal::SIGKILL);
    let status = weir.process().wait(wait::LONG);
    assert_eq!(status.code(), Some(128 + 9), "{}", weir.process().output());
    assert!(!control.exists(), "the control socket is left behind");
}

#[test]
fn killing_what_is_between_weir_and_the_command_ends_both() {
    let mut weir = Weir::run();
    let command = command_of(&weir);
    for child in procfs::descendants(weir.id())
        .into_iter()
        .filter(|child| *child != command)
    {
        process::send(child, Signal::SIGKILL);
    }
    assert!(
        !weir.process().wait(wait::LONG).success(),
        "{}",
        weir.process().output()
    );
    wait::until_true("the command to be gone", wait::LONG, || {
        !procfs::is_alive(command)
    });
}

fn command_of(weir: &Weir) -> u32 {
    let is_ours = |id: &u32| {
        std::fs::read_to_string(format!("/proc/{id}/comm"))
            .is_ok_and(|name| name.trim() == "e2e-inside")
    };
    procfs::descendants(weir.id())
        .into_iter()
        .find(is_ours)
        .expect("the command runs")
}

#[test]
fn nothing_is_left_after_the_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let control = folder.path().join("control.sock");
    let done = process::run(
        Command::new(binaries::weir())
            .args(["run", "--control-socket"])
            .arg(&control)
            .args(["--", "readlink", "/proc/self/ns/net"]),
        wait::LONG,
    );
    assert!(done.status.success(), "{done:?}");
    let namespace = done.stdout.trim();
    assert_ne!(
        std::fs::read_link("/proc/self/ns/net")
            .expect("ours")
            .to_str(),
        Some(namespace)
    );
    let holders = std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .flatten()
        .filter(|entry| {
            std::fs::read_link(entry.path().join("ns/net"))
                .is_ok_and(|link| link.to_str() == Some(namespace))
        });
    assert_eq!(holders.count(), 0, "a process still lives in {namespace}");
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("ours")
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn where_redirection_is_not_to_be_the_environment_names_the_proxy() {
    let server = Server::http(|request| {
        let id = request
            .header("x-request-id")
            .unwrap_or("absent")
            .to_owned();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{id}",
            id.len()
        )
        .into_bytes()
    });
    // A client that obeys HTTP_PROXY: it connects there and asks in absolute form.
    let script = format!(
        "printf '%s' \"$HTTP_PROXY $http_proxy\"; echo; echo {}",
        server.addr()
    );
    let done = process::run(
        Command::new(binaries::weir()).args(["run", "--proxy-env", "--", "sh", "-c", &script]),
        wait::LONG,
    );
    assert!(
        done.stdout.contains("http://127.0.0.1:") || done.stdout.contains("http://localhost:"),
        "{done:?}"
    );
}

#[test]
fn an_unreachable_server_is_a_502_for_http() {
    let weir = Weir::run();
    let addr = scripted::closed_addr();
    let answer = weir
        .http(addr)
        .get(&addr.to_string(), "/")
        .expect("an answer");
    assert_eq!(answer.status(), 502);
    assert!(
        answer.text().contains(&addr.port().to_string()),
        "it says what to look at: {}",
        answer.text()
    );
}

#[test]
fn connecting_directly_still_works_beside_a_run() {
    let origin = Origin::start(&[]);
    let _weir = Weir::run();
    let mut stream = TcpStream::connect(origin.addr()).expect("outside is as it was");
    stream
        .write_all(b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    assert!(!text.contains("x-request-id"), "{text}");
}
