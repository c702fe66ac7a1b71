use super::*;
use expect_test::expect;

fn pod_rules(skip_ports: &[&str], skip_cidrs: &[&str]) -> PodRules {
    PodRules {
        proxy_uid: 19400,
        redirect_port: 19401,
        skip_ports: skip_ports.iter().map(|p| p.parse().unwrap()).collect(),
        skip_cidrs: skip_cidrs.iter().map(|c| c.parse().unwrap()).collect(),
        drop_invalid: false,
    }
}

fn pod(skip_ports: &[&str], skip_cidrs: &[&str]) -> Ruleset {
    Ruleset::pod(&pod_rules(skip_ports, skip_cidrs))
}

#[test]
fn a_pod_drops_what_belongs_to_no_connection_when_told_to() {
    let rules = PodRules {
        drop_invalid: true,
        ..pod_rules(&[], &[])
    };
    let text = Ruleset::pod(&rules).to_string();
    let (_, chain) = text.split_once("to :19401\n  }\n").unwrap();
    expect![[r"
          chain invalid {
            type filter hook input priority filter; policy accept;
            meta l4proto tcp ct state invalid counter drop
          }
        }"]]
    .assert_eq(chain);
}

#[test]
fn a_pod_with_nothing_to_skip_has_no_sets() {
    expect![[r#"
        table inet weir {
          chain output {
            type nat hook output priority -100; policy accept;
            meta l4proto != tcp return
            meta skuid 19400 return
            oifname "lo" return
            fib daddr type local return
            meta l4proto tcp counter redirect to :19401
          }
        }"#]]
    .assert_eq(&pod(&[], &[]).to_string());
}

#[test]
fn a_pod_skips_what_it_is_told_to_with_overlaps_merged() {
    let rules = pod(
        &["3306", "9000-9100", "9050"],
        &["169.254.169.254", "10.0.0.0/8", "10.1.0.0/16", "fd00::/8"],
    );
    expect![[r#"
        table inet weir {
          set skipports {
            type inet_service
            flags interval
            elements = { 3306, 9000-9100 }
          }
          set skip4 {
            type ipv4_addr
            flags interval
            elements = { 10.0.0.0-10.255.255.255, 169.254.169.254 }
          }
          set skip6 {
            type ipv6_addr
            flags interval
            elements = { fd00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff }
          }
          chain output {
            type nat hook output priority -100; policy accept;
            meta l4proto != tcp return
            meta skuid 19400 return
            oifname "lo" return
            fib daddr type local return
            tcp dport @skipports return
            ip daddr @skip4 return
            ip6 daddr @skip6 return
            meta l4proto tcp counter redirect to :19401
          }
        }"#]]
    .assert_eq(&rules.to_string());
}

#[test]
fn a_namespace_redirects_loopback_too_and_refuses_other_datagrams() {
    expect![[r"
        table inet weir {
          chain output {
            type nat hook output priority -100; policy accept;
            meta mark 0x77656972 return
            meta l4proto tcp counter redirect to :19401
            udp dport 53 counter redirect to :19401
          }
          chain refuse {
            type filter hook output priority filter; policy accept;
            meta l4proto tcp return
            ip daddr 127.0.0.0/8 return
            ip6 daddr ::1 return
            ct direction reply return
            counter reject
          }
        }"]]
    .assert_eq(&Ruleset::namespace(19401).to_string());
}

#[test]
fn the_widest_sets_are_still_one_range() {
    let rules = pod(&["1-65535"], &["0.0.0.0/0", "::/0"]);
    let text = rules.to_string();
    assert!(text.contains("{ 1-65535 }"), "{text}");
    assert!(text.contains("{ 0.0.0.0-255.255.255.255 }"), "{text}");
}
