//! What `weir run` does to the application's connections and datagrams.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;

use nix::sys::signal::Signal;

use crate::plane::{RESOLV_CONF, RESOLVER_PORT};
use crate::runner::Case;
use crate::running::{Running, output_of, weir};
use crate::user::User;

pub(crate) const CASES: &[Case] = &[
    (
        "every_address_is_captured_with_its_original_destination",
        captures,
    ),
    ("local_services_of_the_host_are_reached", reaches_the_host),
    ("an_application_reaches_itself", reaches_itself),
    ("our_own_port_is_refused", refuses_own_port),
    ("dns_is_relayed_whatever_server_is_asked", relays_dns),
    ("other_datagrams_are_refused_at_once", refuses_datagrams),
    (
        "a_published_port_is_reachable_and_a_closed_one_resets",
        publishes,
    ),
];

/// Whether the host reaches IPv6 addresses that are not its own; connecting a datagram socket sends nothing.
fn host_routes_v6() -> bool {
    UdpSocket::bind("[::]:0").is_ok_and(|s| s.connect("[2001:db8::1]:9").is_ok())
}

fn captures(user: &User) {
    let mut addresses = vec!["198.51.100.7:80", "198.51.100.8:65535"];
    if host_routes_v6() {
        addresses.push("[2001:db8::7]:443");
    }
    let words: Vec<&str> = ["dial"].iter().chain(&addresses).copied().collect();
    let expected: Vec<String> = addresses
        .iter()
        .map(|address| format!("{address}: going to {address}"))
        .collect();
    assert_eq!(output_of(weir(user, &[], &words)), expected);
    if !host_routes_v6() {
        // As on the host, so that applications try IPv4 instead.
        let lines = output_of(weir(user, &[], &["dial", "[2001:db8::7]:443"]));
        assert_eq!(lines, ["[2001:db8::7]:443: NetworkUnreachable"]);
    }
}

fn reaches_the_host(user: &User) {
    let mut addresses = Vec::new();
    for loopback in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(loopback) else {
            continue;
        };
        addresses.push(listener.local_addr().expect("bound").to_string());
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            client.write_all(b"hello from the host\n").ok();
        });
    }
    let mut words = vec!["dial"];
    words.extend(addresses.iter().map(String::as_str));
    for (line, address) in output_of(weir(user, &[], &words)).iter().zip(&addresses) {
        assert_eq!(*line, format!("{address}: hello from the host"));
    }
}

fn reaches_itself(user: &User) {
    let port = free_port().to_string();
    let lines = output_of(weir(user, &[], &["call-itself", &port]));
    assert_eq!(lines, [format!("127.0.0.1:{port}: hello from inside")]);
}

fn refuses_own_port(user: &User) {
    let lines = output_of(weir(user, &[], &["dial", "127.0.0.1:19401"]));
    assert_eq!(lines, ["127.0.0.1:19401: own port 127.0.0.1:19401"]);
}

fn relays_dns(user: &User) {
    let resolver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = resolver.local_addr().expect("bound").port();
    let directory = tempfile::tempdir().expect("a directory");
    let conf = directory.path().join("resolv.conf");
    fs::write(&conf, "nameserver 127.0.0.1\n").expect("our own file");
    open_to_all(directory.path());
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 512];
        while let Ok((length, from)) = resolver.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            answer[2] |= 0x80;
            answer.extend(b"an answer");
            resolver.send_to(&answer, from).ok();
        }
    });
    let mut servers = vec!["127.0.0.53:53", "198.51.100.53:53", "[::1]:53"];
    if host_routes_v6() {
        servers.push("[2001:db8::53]:53");
    }
    for server in servers {
        let mut command = weir(user, &[], &["ask", server, "4711"]);
        command
            .env(RESOLV_CONF, &conf)
            .env(RESOLVER_PORT, port.to_string());
        assert_eq!(output_of(command), [format!("{server}: 4711 an answer")]);
    }
}

fn refuses_datagrams(user: &User) {
    let mut addresses = vec!["198.51.100.7:443"];
    if host_routes_v6() {
        addresses.push("[2001:db8::7]:443");
    }
    for address in addresses {
        let lines = output_of(weir(user, &[], &["datagram", address]));
        assert_eq!(lines, ["refused: true true, fast: true"], "{address}");
    }
    // Between the application's own processes nothing is refused.
    assert_eq!(output_of(weir(user, &[], &["local-datagram"])), ["hello"]);
}

fn publishes(user: &User) {
    let port = free_port().to_string();
    let publish = format!("0:{port}");
    let mut running = Running::start(&mut weir(
        user,
        &["--publish", &publish],
        &["listen", &port],
    ));
    let published = running.line_with("published ");
    let host = published
        .split_whitespace()
        .nth(1)
        .expect("an address")
        .to_owned();
    running.line_with("listening");
    let mut stream = TcpStream::connect(&host).expect("published");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert_eq!(text, "hello from inside\n");
    assert_eq!(running.exit_code(), Some(0));

    // A port that nobody listens on: reset, not left hanging.
    let mut running = Running::start(&mut weir(user, &["--publish", &publish], &["signals", "1"]));
    let published = running.line_with("published ");
    let host = published
        .split_whitespace()
        .nth(1)
        .expect("an address")
        .to_owned();
    running.line_with("ready");
    let mut stream = TcpStream::connect(&host).expect("published");
    let error = stream.read(&mut [0]).expect_err("reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit_code(), Some(0));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("our own directory");
}
