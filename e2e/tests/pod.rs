//! `weir redirect` and `weir proxy` as in a pod: which connections are taken, and which are not.
//!
//! The rules are the kernel's, the proxy runs as its user, the application beside it, and servers are at the other end of
//! a cable.

use e2e::dns::NameServer;
use e2e::http1::Connection;
use e2e::pod::calls::{
    UID, assert_left_alone, assert_refused_at_once, assert_taken, call, connections, dial, listed,
    node, scrape, serve,
};
use e2e::pod::{NODE, POD, PROXY_UID, Pod, addr, ok};
use e2e::{binaries, process, wait};
use serde_json::Value;

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_calls_are_redirected_proven_and_let_go_again() {
    let pod = Pod::new();
    let (_server, server) = pod.server();
    let _serving = serve(&server, 8000);
    for _ in 0..2 {
        ok(&pod.redirect(&[]));
    }
    ok(&pod.redirect(&["--verify"]));
    let _proxy = pod.proxy();
    let (_itself, itself) = pod.user(PROXY_UID);
    for uid in [UID, "0"] {
        let (_application, application) = pod.user(uid);
        for to in node(8000) {
            let (_connection, seen) = dial(&application, to);
            assert!(
                seen["id"].is_string(),
                "{to} as {uid} was not taken: {seen}"
            );
            assert_eq!(listed(&pod, to)["protocol"], "http1", "exactly as dialled");
            // Otherwise its connections would go round in circles.
            assert_left_alone(&itself, to);
        }
    }
    ok(&pod.redirect(&["--remove"]));
    for to in node(8000) {
        assert_left_alone(&itself, to);
    }
    ok(&pod.redirect(&["--remove"]));
    assert!(
        !pod.redirect(&["--verify"]).status.success(),
        "the rules are gone"
    );
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_calls_to_itself_are_left_alone() {
    let pod = Pod::new();
    ok(&pod.redirect(&[]));
    let _proxy = pod.proxy();
    let (_application, application) = pod.user(UID);
    let _serving = serve(&application, 8080);
    for ip in [&POD[..], &["127.0.0.1", "127.1.2.3", "::1"]].concat() {
        assert_left_alone(&application, addr(ip, 8080));
    }
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_metrics_are_read_at_each_of_its_addresses() {
    let pod = Pod::new();
    ok(&pod.redirect(&[]));
    let _proxy = pod.proxy();
    let (_elsewhere, elsewhere) = pod.server();
    for ip in POD {
        scrape(&elsewhere, ip);
    }
}

/// Virtual addresses: of a service that the pod is behind, and of one that is elsewhere.
const OWN_SERVICE: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
const OTHER_SERVICE: [&str; 2] = ["10.96.0.20", "fd00:96::20"];

/// What kube-proxy does: to a virtual address's server, and back by the node where that is the caller itself.
fn lay_services(pod: &Pod) {
    let ([own4, own6], [other4, other6]) = (OWN_SERVICE, OTHER_SERVICE);
    let ([node4, node6], [pod4, pod6]) = (NODE, POD);
    pod.on_node(&format!(
        "nft -f - <<'RULES'
         table inet services {{
           chain to {{
             type nat hook prerouting priority -100;
             ip daddr {own4} tcp dport 80 dnat ip to {pod4}:8080
             ip6 daddr {own6} tcp dport 80 dnat ip6 to [{pod6}]:8080
             ip daddr {other4} tcp dport 80 dnat ip to {node4}:8000
             ip6 daddr {other6} tcp dport 80 dnat ip6 to [{node6}]:8000
           }}
           chain back {{
             type nat hook postrouting priority 100;
             ip saddr {pod4} ip daddr {pod4} masquerade
             ip6 saddr {pod6} ip6 daddr {pod6} masquerade
           }}
         }}
RULES"
    ));
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_calls_to_its_own_service_are_taken_once() {
    let pod = Pod::new();
    lay_services(&pod);
    let (_application, application) = pod.user(UID);
    let _serving = serve(&application, 8080);
    let bare = OWN_SERVICE.map(|ip| dial(&application, addr(ip, 80)).1);
    ok(&pod.redirect(&[]));
    let _proxy = pod.proxy();
    for (number, (ip, bare)) in (1..).zip(OWN_SERVICE.into_iter().zip(bare)) {
        let (_connection, seen) = dial(&application, addr(ip, 80));
        assert_eq!(seen["attempt"], "1", "{seen}");
        assert_eq!(seen["peer"], bare["peer"], "as without weir: the node");
        assert_eq!(listed(&pod, addr(ip, 80))["calls"], 1);
        assert_eq!(pod.read("/v1/status")["calls"], number);
    }
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_calls_to_another_service_are_known_by_the_services_address() {
    let pod = Pod::new();
    lay_services(&pod);
    let (_server, server) = pod.server();
    let _serving = serve(&server, 8000);
    ok(&pod.redirect(&[]));
    let _proxy = pod.proxy();
    let (_application, application) = pod.user(UID);
    for ip in OTHER_SERVICE {
        let (_connection, seen) = dial(&application, addr(ip, 80));
        assert!(seen["id"].is_string(), "{seen}");
        assert_eq!(listed(&pod, addr(ip, 80))["protocol"], "http1");
    }
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_skipped_calls_are_left_alone() {
    let pod = Pod::new();
    pod.on_node("ip addr add 10.98.0.77/32 dev lo; ip -6 addr add fd98::77/128 dev lo");
    let (_server, server) = pod.server();
    let _serving = [8000, 3306, 9050].map(|port| serve(&server, port));
    ok(&pod.redirect(&[
        "--skip-ports",
        "3306,9000-9100",
        "--skip-cidrs",
        "10.98.0.0/24,fd98::/64",
    ]));
    let _proxy = pod.proxy();
    let (_application, application) = pod.user(UID);
    for skipped in [node(3306), node(9050)].concat() {
        assert_left_alone(&application, skipped);
    }
    for skipped in ["10.98.0.77", "fd98::77"] {
        assert_left_alone(&application, addr(skipped, 8000));
    }
    for to in node(8000) {
        assert_taken(&application, to);
    }
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_questions_for_names_pass() {
    let pod = Pod::new();
    let (_server, server) = pod.server();
    let _serving = serve(&server, 53);
    ok(&pod.redirect(&[]));
    let _proxy = pod.proxy();
    let (_application, application) = pod.user(UID);
    for (to, own) in node(53).into_iter().zip(POD) {
        // By UDP directly.
        let (client, resolver) = (
            application.udp(addr(own, 0)).expect("a socket"),
            server.udp(to).expect("a socket"),
        );
        let mut bytes = [0; 16];
        for socket in [&client, &resolver] {
            socket.set_read_timeout(Some(wait::LONG)).expect("not zero");
        }
        client.send_to(b"question", to).expect("sent");
        let (count, from) = resolver.recv_from(&mut bytes).expect("a question");
        assert_eq!(from, client.local_addr().expect("it is bound"));
        resolver.send_to(&bytes[..count], from).expect("sent");
        let (count, from) = client.recv_from(&mut bytes).expect("an answer");
        assert_eq!((&bytes[..count], from), (&b"question"[..], to));
        // By TCP through weir, which does not look into it, whatever it looks like.
        let (_connection, seen) = dial(&application, to);
        assert!(seen["id"].is_null(), "{seen}");
        assert_eq!(listed(&pod, to)["protocol"], "opaque");
    }
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_calls_to_the_proxys_own_port_do_not_loop() {
    let pod = Pod::new();
    ok(&pod.redirect(&[]));
    let _proxy = pod.proxy();
    let (_application, application) = pod.user(UID);
    for ip in ["127.0.0.1", "::1"] {
        match application.connect(addr(ip, 19401)) {
            Ok(stream) => {
                let answer = Connection::over(stream).get("a", "/");
                assert!(answer.is_err(), "{answer:?}");
            }
            // It was over before we looked.
            Err(error) => assert!(error.to_string().contains("reset"), "{error}"),
        }
    }
    wait::until_true("both connections to end", wait::LONG, || {
        pod.read("/v1/status")["connections"] == 0
    });
    assert_eq!(pod.read("/v1/status")["calls"], 0);
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_calls_fail_at_once_before_and_after_the_proxy() {
    let pod = Pod::new();
    let (_server, server) = pod.server();
    let _serving = serve(&server, 8000);
    let (_application, application) = pod.user(UID);
    for to in node(8000) {
        assert_left_alone(&application, to);
    }
    ok(&pod.redirect(&[]));
    for to in node(8000) {
        assert_refused_at_once(&application, to);
    }
    let mut proxy = pod.proxy();
    for to in node(8000) {
        assert_taken(&application, to);
    }
    proxy.kill();
    for to in node(8000) {
        assert_refused_at_once(&application, to);
    }
    let _proxy = pod.proxy();
    for to in node(8000) {
        assert_taken(&application, to);
    }
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_calls_from_one_port_to_two_servers_are_told_apart() {
    let pod = Pod::new();
    let (_server, server) = pod.server();
    let _serving = [8000, 8001].map(|port| serve(&server, port));
    ok(&pod.redirect(&[]));
    let _proxy = pod.proxy();
    let (_application, application) = pod.user(UID);
    let mut held: Vec<Connection> = Vec::new();
    let servers = [node(8000), node(8001)].concat();
    for to in &servers {
        let stream = application.connect_from(40_000, *to);
        let stream = stream.unwrap_or_else(|error| panic!("{to}: {error}"));
        held.push(Connection::over(stream));
    }
    for (connection, to) in held.iter_mut().zip(servers) {
        assert!(call(connection)["id"].is_string(), "{to}");
        assert_eq!(listed(&pod, to)["calls"], 1, "{to}");
    }
}

/// Connections that the application has to each server, of the pod's 100 ports.
///
/// A port is free for each server anew, but the proxy's connections are the pod's as well: an application that took all
/// 100 would leave none to the one that carries its calls on. One or two of those are in use at a time; the rest is for
/// those that follow them, as a closed connection's port stays taken for a minute.
const HELD: usize = 90;

/// All connections end at the proxy's one port, so the kernel has to change source ports that would be the same.
#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_hundred_ports_are_enough_for_ninety_connections_to_each_of_two_servers() {
    let pod = Pod::new();
    let (_server, server) = pod.server();
    let _serving = [8000, 8001].map(|port| serve(&server, port));
    ok(&pod.redirect(&[]));
    // Of both families, in spite of its name.
    pod.in_pod("echo 40000 40099 > /proc/sys/net/ipv4/ip_local_port_range");
    let _proxy = pod.proxy();
    let (_application, application) = pod.user(UID);
    let servers = [node(8000), node(8001)].concat();
    let mut held = Vec::new();
    for to in &servers {
        for number in 0..HELD {
            let (connection, seen) = dial(&application, *to);
            assert!(seen["id"].is_string(), "{number} to {to}: {seen}");
            held.push(connection);
        }
    }
    let all = connections(&pod);
    for to in servers {
        let is_to = |one: &&Value| one["destination"] == to.to_string();
        let count = all.iter().filter(is_to).count();
        assert_eq!(count, HELD, "{to}");
    }
}

#[test]
#[ignore = "needs root, to bind port 53 and to mount: .ci/run peers"]
fn names_are_asked_of_the_hosts_resolver() {
    // A resolver that knows one name, at an address that only this test's resolv.conf names.
    let server = NameServer::start(
        [127, 0, 0, 77].into(),
        &[("only-here.weir.test", [192, 0, 2, 33].into())],
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let conf = folder.path().join("resolv.conf");
    std::fs::write(&conf, server.resolv_conf()).expect("ours");
    let script = format!(
        "mount --bind {} /etc/resolv.conf && exec {} run -- getent ahostsv4 only-here.weir.test",
        conf.display(),
        binaries::weir().display()
    );
    let done = process::run(
        std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]),
        wait::LONG,
    );
    ok(&done);
    assert!(done.stdout.starts_with("192.0.2.33 "), "{done:?}");
}
