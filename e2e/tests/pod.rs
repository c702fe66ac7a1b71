//! `weir redirect` and `weir proxy` as in a pod: a network namespace of its own, the proxy under its user id, the
//! application beside it, and the world at the other end of a cable.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use e2e::http1::Connection;
use e2e::inside::Inside;
use e2e::origin::{Origin, header};
use e2e::process::{self, Finished, Process};
use e2e::{binaries, wait};

const PROXY_UID: &str = "19400";
const OUTSIDE: [&str; 2] = ["10.203.77.1", "fd00:203:77::1"];
const WITHIN: [&str; 2] = ["10.203.77.2", "fd00:203:77::2"];

/// A namespace with a cable to the host. It is gone with the process that holds it, and the cable with it.
struct Pod {
    holder: Process,
    folder: tempfile::TempDir,
}

impl Pod {
    fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "only root can lay a cable"
        );
        let holder = Process::spawn(
            "pod",
            Command::new("unshare").args(["-n", "sh", "-c", "echo up; exec cat"]),
        );
        holder.line_after("up", wait::LONG);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pod = Self { holder, folder };
        let (id, cable) = (pod.holder.id().to_string(), "weir-e2e");
        let host = |words: &[&str]| ok(&process::run(Command::new("ip").args(words), wait::LONG));
        host(&[
            "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", &id,
        ]);
        host(&["link", "set", cable, "up"]);
        pod.ok(&["ip", "link", "set", "lo", "up"]);
        pod.ok(&["ip", "link", "set", "eth0", "up"]);
        for (outside, within) in OUTSIDE.into_iter().zip(WITHIN) {
            let length = if outside.contains(':') { 64 } else { 24 };
            let nodad: &[&str] = if outside.contains(':') {
                &["nodad"]
            } else {
                &[]
            };
            let (outside, within) = (format!("{outside}/{length}"), format!("{within}/{length}"));
            host(&[&["addr", "add", &outside, "dev", cable], nodad].concat());
            pod.ok(&[&["ip", "addr", "add", &within, "dev", "eth0"], nodad].concat());
        }
        pod.ok(&["ip", "route", "add", "default", "via", OUTSIDE[0]]);
        pod.ok(&["ip", "-6", "route", "add", "default", "via", OUTSIDE[1]]);
        // Every user may run what is in it.
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(pod.folder.path(), open.clone()).expect("ours");
        for (name, path) in [
            ("weir", binaries::weir()),
            ("e2e-inside", binaries::peer("e2e-inside")),
        ] {
            std::fs::copy(path, pod.path(name)).expect("ours");
            std::fs::set_permissions(pod.path(name), open.clone()).expect("ours");
        }
        pod
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command in the pod's network.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.holder.id().to_string(), "-n"])
            .args(words);
        command
    }

    fn ok(&self, words: &[&str]) {
        ok(&process::run(&mut self.command(words), wait::LONG));
    }

    fn redirect(&self, words: &[&str]) -> Finished {
        let weir = self.path("weir");
        let words = [&[weir.to_str().expect("text"), "redirect"], words].concat();
        process::run(&mut self.command(&words), wait::LONG)
    }

    fn proxy(&self) -> Process {
        let weir = self.path("weir");
        let words = [
            "setpriv",
            "--reuid",
            PROXY_UID,
            "--regid",
            PROXY_UID,
            "--clear-groups",
        ];
        let mut command =
            self.command(&[&words[..], &[weir.to_str().expect("text"), "proxy"]].concat());
        command.env("WEIR_CONTROL_SOCKET", self.path("control.sock"));
        let process = Process::spawn("weir proxy", &mut command);
        let control = self.path("control.sock");
        wait::until_true("weir proxy to listen", wait::LONG, || {
            e2e::http1::unix(&control, "GET", "/v1/status", &[], "").is_ok()
        });
        process
    }

    /// A way to open sockets in the pod as a user.
    fn as_user(&self, uid: &str) -> (Process, Inside) {
        let socket = self.path(&format!("inside-{uid}.sock"));
        let listener = Inside::listen(&socket).expect("ours");
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).expect("ours");
        let program = self.path("e2e-inside");
        let words = [
            "setpriv",
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
            program.to_str().expect("text"),
        ];
        let mut command = self.command(&words);
        let process = Process::spawn("e2e-inside", command.arg(&socket));
        (process, Inside::accept(&listener).expect("it connects"))
    }
}

fn ok(done: &Finished) {
    assert!(done.status.success(), "{done:?}");
}

/// The correlation id that a server saw; empty when the call did not pass weir.
fn seen_id(inside: &Inside, addr: SocketAddr) -> String {
    let stream = inside
        .connect(addr)
        .unwrap_or_else(|error| panic!("{addr}: {error}"));
    let echo = Connection::over(stream)
        .get("a", "/echo")
        .expect("an answer")
        .json();
    header(&echo, "x-request-id").to_owned()
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run e2e"]
fn a_pods_calls_are_redirected_proven_and_let_go_again() {
    let servers = [
        Origin::start(&["--listen", "0.0.0.0:0"]),
        Origin::start(&["--listen", "[::]:0"]),
    ];
    let addrs: Vec<SocketAddr> = OUTSIDE
        .into_iter()
        .zip(&servers)
        .map(|(ip, server)| {
            SocketAddr::new(
                ip.parse::<IpAddr>().expect("an address"),
                server.addr().port(),
            )
        })
        .collect();
    let pod = Pod::new();
    assert!(
        !pod.redirect(&["--verify"]).status.success(),
        "there are no rules yet"
    );
    for _ in 0..2 {
        ok(&pod.redirect(&[]));
    }
    ok(&pod.redirect(&["--verify"]));
    let _proxy = pod.proxy();
    let (_application, application) = pod.as_user("1000");
    let (_itself, itself) = pod.as_user(PROXY_UID);
    for addr in &addrs {
        assert_eq!(
            seen_id(&application, *addr).len(),
            36,
            "{addr} was not redirected"
        );
        assert_eq!(
            seen_id(&itself, *addr),
            "",
            "{addr}: the proxy's own connections go round in circles"
        );
    }
    ok(&pod.redirect(&["--remove"]));
    for addr in &addrs {
        assert_eq!(
            seen_id(&application, *addr),
            "",
            "{addr} is still redirected"
        );
    }
    ok(&pod.redirect(&["--remove"]));
    assert!(
        !pod.redirect(&["--verify"]).status.success(),
        "the rules are gone"
    );
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run e2e"]
fn names_are_asked_of_the_hosts_resolver() {
    use std::net::UdpSocket;
    // A resolver that knows one answer, at an address that only this test's resolv.conf names.
    let server = UdpSocket::bind("127.0.0.77:53").expect("root may");
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((count, from)) = server.recv_from(&mut query) {
            drop(server.send_to(&answer_to(&query[..count]), from));
        }
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let conf = folder.path().join("resolv.conf");
    std::fs::write(&conf, "nameserver 127.0.0.77\n").expect("ours");
    let script = format!(
        "mount --bind {} /etc/resolv.conf && exec {} run -- getent ahostsv4 only-here.weir.test",
        conf.display(),
        binaries::weir().display()
    );
    let done = process::run(
        Command::new("unshare").args(["-m", "sh", "-c", &script]),
        wait::LONG,
    );
    ok(&done);
    assert!(done.stdout.starts_with("192.0.2.33 "), "{done:?}");
}

/// The answer to a DNS query: 192.0.2.33 for an A record, nothing for all others.
fn answer_to(query: &[u8]) -> Vec<u8> {
    let question_end = query
        .windows(5)
        .skip(12)
        .position(|bytes| bytes[0] == 0)
        .unwrap_or(0)
        + 12
        + 5;
    let question = query.get(12..question_end).unwrap_or_default();
    let is_a = question.ends_with(&[0, 1, 0, 1]);
    let mut answer = query.get(..2).unwrap_or_default().to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 33]);
    }
    answer
}
