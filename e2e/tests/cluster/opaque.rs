//! What weir cannot read it forwards as it is: databases, servers that speak first, and what is not redirected at all.

use e2e::cluster::namespace::Namespace;

/// Longest time to a server's first byte, in milliseconds: no detection may wait in between.
const FIRST_BYTE_MAX: f64 = 50.0;

/// The median of five tries, as machines are shared.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn postgresql_answers_through_weir_without_a_wait() {
    let shop = Namespace::injected("weir-postgres");
    shop.shop(&["postgres"]);
    shop.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: query}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: registry.local/shop-python:1
    imagePullPolicy: IfNotPresent
    command: [/usr/bin/python3, -c, 'import time; time.sleep(3600)']
    securityContext: {runAsUser: 1000}
",
    );
    shop.wait_pod("query", "Ready");
    let times = (0..5).map(|_| {
        let answer = shop.exec_json(
            "query",
            "app",
            &["/usr/bin/python3", "/app", "query", "postgres:5432"],
        );
        assert_eq!(answer["rows"][0][0], 1, "{answer}");
        answer["took_ms"].as_f64().expect("a time")
    });
    let median = median(times.collect());
    println!("PostgreSQL, connect and one query: median {median:.1} ms");
    assert!(median < 4.0 * FIRST_BYTE_MAX, "{median} ms");
    assert!(shop.metric("query", "weir_connections_closed_total", &["opaque"]) >= 5);
    assert_eq!(shop.metric("query", "weir_detect_timeouts_total", &[]), 0);
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_server_that_speaks_first_is_heard_at_once() {
    let shop = Namespace::injected("weir-nats");
    // NATS is among the known ports; the other one only its own bytes can tell.
    shop.shop(&["nats", "greet"]);
    shop.client("");
    for (target, banner) in [("nats:4222", "INFO"), ("greet:7000", "220")] {
        let times = (0..5).map(|_| {
            let answer = shop.exec_json("client", "app", &["/shop", "dial", target]);
            let first = answer["bytes"].as_str().expect("bytes");
            assert!(
                !first.is_empty() && first.starts_with(banner),
                "{target}: {answer}"
            );
            answer["first_byte_ms"].as_f64().expect("a time")
        });
        let median = median(times.collect());
        println!("{target}: first byte after {median:.1} ms (median)");
        assert!(median < FIRST_BYTE_MAX, "{target}: {median} ms");
    }
    assert_eq!(shop.metric("client", "weir_detect_timeouts_total", &[]), 0);
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_skipped_port_and_a_skipped_network_bypass_weir() {
    let shop = Namespace::injected("weir-skip");
    shop.shop(&["stock", "catalog"]);
    let catalog = shop.get(&["service", "catalog"])["spec"]["clusterIPs"].clone();
    let networks: Vec<&str> = catalog
        .as_array()
        .expect("addresses")
        .iter()
        .filter_map(|one| one.as_str())
        .collect();
    let annotations = format!(
        "weir.dev/skip-outbound-ports: '8080', weir.dev/skip-outbound-cidrs: '{}'",
        networks.join(",")
    );
    shop.client(&annotations);
    let stock = shop.get(&["pod", &shop.pod("app=stock")])["status"]["podIP"].clone();
    let direct = format!(
        "http://{}:8080/stock/1",
        stock.as_str().expect("an address")
    );
    for (url, more) in [
        (direct.as_str(), 0),
        ("http://catalog/items/1", 0),
        ("http://stock/stock/1", 1),
    ] {
        let before = shop.metric("client", "weir_outbound_requests_total", &[]);
        let answer = shop.call("client", "app", url);
        assert_eq!(answer["ok"], true, "{url}: {answer}");
        let after = shop.metric("client", "weir_outbound_requests_total", &[]);
        assert_eq!(after - before, more, "{url}");
    }
}
