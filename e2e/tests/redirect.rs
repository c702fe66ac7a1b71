//! `weir redirect` as the init step of a pod: with few rights, again at any time, and beside others' rules.

use e2e::pod::calls::{UID, assert_taken, call, dial, node, scrape, serve};
use e2e::pod::{ADMIN_PORT, NODE, POD, PROXY_UID, Pod, addr, ok};
use e2e::process::Finished;

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_network_may_be_without_ipv6() {
    let pod = Pod::new();
    pod.in_pod(
        "for name in all default lo eth0; do echo 1 > /proc/sys/net/ipv6/conf/$name/disable_ipv6; done",
    );
    works_by_ipv4_alone(&pod, &[]);
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_node_may_be_without_ipv6() {
    let pod = Pod::new();
    let without_ipv6 = include_str!("python/without_ipv6.py");
    works_by_ipv4_alone(&pod, &["python3", "-c", without_ipv6]);
}

/// Everything of a pod, its programs run by `program`.
fn works_by_ipv4_alone(pod: &Pod, program: &[&str]) {
    let (_server, server) = pod.server();
    let _serving = serve(&server, 8000);
    for words in [&[][..], &["--verify"]] {
        let done = pod.redirect_by(program, words);
        ok(&done);
        let found = "IPv4: redirected; IPv6: not in use";
        assert!(done.stdout.contains(found), "{done:?}");
    }
    let _proxy = pod.proxy_by(program);
    let (_application, application) = pod.user(UID);
    assert_taken(&application, addr(NODE[0], 8000));
    scrape(&server, POD[0]);
    let by_ipv6 = server.connect(addr(POD[1], ADMIN_PORT));
    assert!(by_ipv6.is_err(), "the proxy has IPv6 after all");
    ok(&pod.redirect_by(program, &["--verify"]));
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_init_step_may_run_again_at_any_time() {
    let pod = Pod::new();
    let (_server, server) = pod.server();
    let _serving = serve(&server, 8000);
    ok(&pod.redirect(&[]));
    let _proxy = pod.proxy();
    let (_application, application) = pod.user(UID);
    let (mut connection, seen) = dial(&application, addr(NODE[0], 8000));
    assert!(seen["id"].is_string(), "{seen}");
    for _ in 0..3 {
        ok(&pod.redirect(&[]));
        assert!(
            call(&mut connection)["id"].is_string(),
            "an open connection stays"
        );
        for to in node(8000) {
            assert_taken(&application, to);
        }
    }
}

/// The rules as a text for `nft`, as a CNI plug-in or an administrator may install them.
const RULES_OF_OTHERS: &str = "nft -f - <<'RULES'
table inet TABLE {
  set skip4 { type ipv4_addr; flags interval; elements = { 169.254.169.254 } }
  set skip6 { type ipv6_addr; flags interval; }
  set skipports { type inet_service; flags interval; elements = { 3306 } }
  chain output {
    type nat hook output priority -100; policy accept;
    meta l4proto != tcp return
    meta skuid 19400 return
    oifname \"lo\" return
    fib daddr type local return
    tcp dport @skipports return
    ip daddr @skip4 return
    ip6 daddr @skip6 return
    meta l4proto tcp counter redirect to :19401
  }
}
RULES";

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_rules_of_others_are_proven_and_their_absence_is_told() {
    let pod = Pod::new();
    let (_server, server) = pod.server();
    let _serving = serve(&server, 8000);
    // Whoever only looks needs no rights.
    let nobody = ["setpriv", "--reuid", UID, "--regid", UID, "--clear-groups"];
    for done in [
        pod.redirect_by(&nobody, &["--verify"]),
        pod.redirect(&["--verify"]),
    ] {
        assert!(!done.status.success(), "there are no rules yet");
        let told = &done.stderr;
        assert!(told.contains("did not land on port 19401"), "{told}");
    }
    for table in ["weir", "of_others"] {
        pod.in_pod(&RULES_OF_OTHERS.replace("TABLE", table));
        ok(&pod.redirect(&["--verify"]));
        ok(&pod.redirect_by(&nobody, &["--verify"]));
        pod.in_pod(&format!("nft delete table inet {table}"));
    }
    pod.in_pod(&RULES_OF_OTHERS.replace("TABLE", "of_others"));
    let _proxy = pod.proxy();
    ok(&pod.redirect_by(&nobody, &["--verify"]));
    let (_application, application) = pod.user(UID);
    for to in node(8000) {
        assert_taken(&application, to);
    }
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_rules_of_others_for_one_family_are_no_proof_of_the_other() {
    let pod = Pod::new();
    let v4 = RULES_OF_OTHERS.replace(
        "meta l4proto tcp counter",
        "meta nfproto ipv4 meta l4proto tcp counter",
    );
    pod.in_pod(&v4.replace("TABLE", "of_others"));
    // As of a router that knows no way: the pod itself has one.
    pod.on_node("ip -6 route add unreachable 2001:db8::/32");
    let told = failed(pod.redirect(&["--verify"]));
    assert!(
        told.contains("[2001:db8::1]") && told.contains("did not land"),
        "{told}"
    );
    pod.in_pod("ip -6 route del default");
    ok(&pod.redirect(&["--verify"]));
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_init_step_needs_one_capability_and_nothing_to_write_to() {
    let pod = Pod::new();
    let script = "mount -o remount,bind,ro /; ! touch /weir-must-not-write 2>/dev/null
        exec setpriv --bounding-set=-all,+net_admin --inh-caps=-all --no-new-privs \"$@\"";
    let container = ["unshare", "--mount", "sh", "-ec", script, "sh"];
    ok(&pod.redirect_by(&container, &[]));
    ok(&pod.redirect_by(&container, &["--verify"]));
    let without = script.replace(",+net_admin", "");
    let container = ["unshare", "--mount", "sh", "-ec", &without, "sh"];
    let done = pod.redirect_by(&container, &[]);
    assert!(!done.status.success(), "{done:?}");
    assert!(done.stderr.contains("NET_ADMIN"), "{done:?}");
}

/// What may stand before the pod's rules, by what it is, as a chain of another table, with what becomes of the connection
/// that is made for a proof.
const EARLIER: &[(&str, &str, &str)] = &[
    (
        "another mesh, whose proxy is not up yet",
        "type nat hook output priority -110; meta l4proto tcp redirect to :15001",
        "refused",
    ),
    (
        "another mesh, whose proxy answers",
        "type nat hook output priority -110; meta l4proto tcp redirect to :15002",
        "someone else answered",
    ),
    (
        "another mesh, for IPv6 alone",
        "type nat hook output priority -110; meta nfproto ipv6 meta l4proto tcp redirect to :15002",
        "someone else answered",
    ),
    (
        "a firewall of what leaves",
        "type filter hook output priority 0; policy drop; udp dport 53 accept",
        "no answer within",
    ),
    (
        "a firewall of what arrives",
        "type filter hook input priority 0; tcp dport 19401 reject with tcp reset",
        "refused",
    ),
];

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_init_step_fails_where_other_rules_come_first() {
    let pod = Pod::new();
    let (_other, other) = pod.user("0");
    let _answering = serve(&other, 15002);
    for (name, chain, detail) in EARLIER {
        let table = format!("table inet earlier {{ chain output {{ {chain}; }}; }}");
        pod.in_pod(&format!("nft '{table}'"));
        let told = failed(pod.redirect(&[]));
        for part in [
            "the table `inet weir` is installed",
            "did not land on port 19401",
            detail,
            "nft list ruleset",
        ] {
            assert!(told.contains(part), "{name}: {told}");
        }
        // Which chain it was can be seen by that, and without it all is well.
        pod.in_pod(
            "nft list ruleset | grep -q 'table inet earlier'; nft delete table inet earlier",
        );
        ok(&pod.redirect(&["--verify"]));
    }
}

#[test]
#[ignore = "needs root, to lay a cable into a namespace: .ci/run peers"]
fn a_pods_init_step_is_refused_as_the_user_of_the_proxy() {
    let pod = Pod::new();
    let as_proxy = ["setpriv", "--reuid", PROXY_UID, "--clear-groups"];
    for (program, words, uid) in [
        (&as_proxy[..], &[][..], PROXY_UID),
        (&as_proxy, &["--verify"], PROXY_UID),
        (&[], &["--proxy-uid", "0"], "0"),
    ] {
        let told = failed(pod.redirect_by(program, words));
        assert!(told.contains(&format!("runs as user {uid}")), "{told}");
        assert!(told.contains("run it as another user"), "{told}");
    }
    pod.in_pod("! nft list table inet weir 2>/dev/null");
}

/// What it said for failing.
fn failed(done: Finished) -> String {
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert_eq!(done.stdout, "", "nothing was proven");
    done.stderr
}
