//! What the cases run as CMD: small programs that do one thing and print what they saw.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::{Pid, getpgrp, setsid};

use crate::runner::say;

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = arguments.filter_map(|a| a.into_string().ok()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["dial", addresses @ ..] => addresses.iter().for_each(|a| dial(a)),
        ["ask", server, id] => ask(server, id.parse().expect("an id")),
        ["datagram", address] => datagram(address),
        ["local-datagram"] => local_datagram(),
        ["listen", port] => listen(port.parse().expect("a port"), 1),
        ["call-itself", port] => call_itself(port.parse().expect("a port")),
        ["exit", code] => return ExitCode::from(code.parse::<u8>().expect("a code")),
        ["raise", signal] => raise(signal.parse().expect("a signal")).expect("ours to raise"),
        ["signals", count] => signals(count.parse().expect("a count")),
        ["family"] => family(),
        ["stubborn"] => stubborn(),
        ["daemon"] => {
            setsid().expect("not a group's leader");
            stubborn();
        }
        ["status"] => status(),
        other => panic!("no such application: {other:?}"),
    }
    ExitCode::SUCCESS
}

#[allow(
    clippy::disallowed_methods,
    reason = "real time: other processes are waited for"
)]
fn now() -> Instant {
    Instant::now()
}

/// Prints the first line that the server says, or how the connection failed.
fn dial(address: &str) {
    let address: SocketAddr = address.parse().expect("an address");
    let started = now();
    let said = TcpStream::connect_timeout(&address, PATIENCE).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    match said {
        Ok(text) => say(&format!("{address}: {}", text.trim())),
        Err(error) => say(&format!("{address}: {:?}", error.kind())),
    }
    assert!(started.elapsed() < PATIENCE, "took {:?}", started.elapsed());
}

/// Sends a DNS question of ours, and prints who answered what.
fn ask(server: &str, id: u16) {
    let server: SocketAddr = server.parse().expect("an address");
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut question = id.to_be_bytes().to_vec();
    question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    socket
        .send_to(&question, server)
        .expect("DNS is let through");
    let mut answer = [0_u8; 512];
    match socket.recv_from(&mut answer) {
        Ok((length, from)) => {
            let text = String::from_utf8_lossy(&answer[12..length]);
            say(&format!(
                "{from}: {} {text}",
                u16::from_be_bytes([answer[0], answer[1]])
            ));
        }
        Err(error) => say(&format!("no answer: {:?}", error.kind())),
    }
}

/// Prints how fast a datagram fails, on an unconnected socket and on a connected one.
fn datagram(address: &str) {
    let address: SocketAddr = address.parse().expect("an address");
    let any = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let started = now();
    let socket = UdpSocket::bind(any).expect("a socket");
    let unconnected = socket.send_to(b"x", address).is_err();
    socket.connect(address).expect("a route");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let connected = socket.send(b"x").is_err() || socket.recv(&mut [0]).is_err();
    let fast = started.elapsed() < Duration::from_secs(1);
    say(&format!("refused: {unconnected} {connected}, fast: {fast}"));
}

fn local_datagram() {
    let a = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let b = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = a.local_addr().expect("bound");
    b.send_to(b"hello", to).expect("loopback is let through");
    let mut buffer = [0_u8; 16];
    let length = a.recv(&mut buffer).expect("a datagram");
    say(&String::from_utf8_lossy(&buffer[..length]));
}

/// Says hello to `count` clients.
fn listen(port: u16, count: usize) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port of our own");
    say("listening");
    for _ in 0..count {
        let (mut client, _) = listener.accept().expect("a client");
        client.write_all(b"hello from inside\n").ok();
    }
}

fn call_itself(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port of our own");
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client.write_all(b"hello from inside\n").ok();
    });
    dial(&format!("127.0.0.1:{port}"));
    server.join().expect("the server ended");
}

/// Prints the next signals that come, without dying of them.
fn signals(count: usize) {
    let wanted = SigSet::from_iter([
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
    ]);
    wanted.thread_block().expect("our own mask");
    say("ready");
    for _ in 0..count {
        say(wanted.wait().expect("a signal").as_str());
    }
}

/// Leaves a child and a daemon behind that obey no signal, says so, and stays.
fn family() {
    let program = std::env::current_exe().expect("our own path");
    let children = ["stubborn", "daemon"].map(|role| {
        let child = Command::new(&program).args(["application", role]).spawn();
        child.expect("a child")
    });
    stubborn();
    drop(children);
}

/// Never ends by itself.
fn stubborn() {
    SigSet::all().thread_block().expect("our own mask");
    say(&format!("pid {}", Pid::this()));
    loop {
        std::thread::sleep(PATIENCE);
    }
}

/// Prints what the cases check of a process's identity.
fn status() {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    for line in status.lines() {
        if [
            "Uid:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "SigBlk:",
        ]
        .iter()
        .any(|name| line.starts_with(name))
        {
            say(&line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    let mut input = String::new();
    io::stdin()
        .read_to_string(&mut input)
        .expect("standard input");
    say(&format!("input: {}", input.trim()));
    say(&format!("group: {}", getpgrp()));
    for name in [
        "WEIR_CONTROL_SOCKET",
        "http_proxy",
        "HTTPS_PROXY",
        "NO_PROXY",
    ] {
        if let Ok(value) = std::env::var(name) {
            say(&format!("{name}: {value}"));
        }
    }
}
