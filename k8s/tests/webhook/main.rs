//! `weir-injector serve` as an API server, a scraper and a kubelet meet it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and its helpers are tests too; other processes are waited for in real time"
)]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod server;

use server::{PATIENCE, Webhook, answer, certify, exchange, review, until};

#[test]
fn reviews_are_answered_counted_and_refused_with_a_reason() {
    let webhook = Webhook::start();
    let (status, body) = webhook.post("/inject", &review());
    assert_eq!(status, 200, "{body}");
    let injected: Value = serde_json::from_str(&body).unwrap();
    assert!(injected["response"]["patch"].is_string());
    let (_, restricted) = webhook.post("/inject/restricted", &review());
    assert!(restricted.contains("psa_forbids_net_admin"), "{restricted}");
    let (status, body) = webhook.post("/inject", b"{}");
    assert_eq!(status, 400);
    assert!(
        body.starts_with("not an AdmissionReview: missing field"),
        "{body}"
    );
    let (status, _) = webhook.post("/inject", &vec![b' '; 3 * 1024 * 1024 + 1]);
    assert_eq!(status, 413);
    let service = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u", "operation": "CREATE", "kind": {"kind": "Service"}, "object": {}},
    });
    let (status, body) = webhook.post("/inject", service.to_string().as_bytes());
    assert_eq!(status, 200);
    assert!(
        body.contains("\"allowed\":true") && !body.contains("patch"),
        "{body}"
    );
    assert_eq!(webhook.post("/other", b"").0, 404);
    let (_, metrics) = webhook.get("/metrics");
    for line in [
        "weir_injector_requests_total{result=\"injected\"} 2",
        "weir_injector_requests_total{result=\"malformed\"} 1",
        "weir_injector_requests_total{result=\"over_limit\"} 1",
        "weir_injector_requests_total{result=\"unsupported_resource\"} 1",
        "weir_injector_request_duration_seconds_count 5",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.contains("weir_injector_cert_expiry_timestamp_seconds "));
    assert_eq!(webhook.get("/livez").0, 200);
    assert_eq!(webhook.get("/readyz").0, 200);
}

#[test]
fn whoever_says_nothing_keeps_nobody_out() {
    let webhook = Webhook::start();
    // An answer that is still on its way stays: half of a body is sent.
    let review = review();
    let (half, rest) = review.split_at(review.len() / 2);
    let mut busy = webhook.connect(&webhook.trusted);
    let length = review.len();
    write!(
        busy,
        "POST /inject HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    busy.write_all(half).unwrap();
    busy.flush().unwrap();
    let begun = Instant::now();
    let open = |to| {
        let silent = TcpStream::connect(to).unwrap();
        silent
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        silent
    };
    // More than there are places, on both ports; some of them got as far as a handshake.
    let mut silent: Vec<_> = (0..300).map(|_| open(webhook.reviews)).collect();
    silent.extend((0..300).map(|_| open(webhook.admin)));
    let mut greeted: Vec<_> = (0..20).map(|_| webhook.connect(&webhook.trusted)).collect();
    for stream in &mut greeted {
        stream.write_all(b"POST /inject HTTP/1.1\r\n").unwrap();
    }
    let (status, body) = webhook.post("/inject", &review);
    assert_eq!(status, 200, "{body}");
    assert_eq!(webhook.get("/readyz").0, 200);
    busy.write_all(rest).unwrap();
    busy.flush().unwrap();
    assert_eq!(answer(&mut busy).0, 200);
    // The first of them went, long before their time was over.
    for place in [0, 300] {
        let ended = silent[place].read(&mut [0]);
        let is_timeout = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        assert!(!ended.as_ref().is_err_and(is_timeout), "{ended:?}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_pod_of_thousands_of_containers_is_left_as_it_is() {
    let webhook = Webhook::start();
    let container =
        json!({"name": "a", "terminationMessagePath": "/", "imagePullPolicy": "Always"});
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u", "operation": "CREATE", "kind": {"kind": "Pod"}, "object": {
            "metadata": {"annotations": {"weir.dev/interception": "env"}},
            "spec": {"containers": vec![container; 12_000]},
        }},
    });
    let (status, body) = webhook.post("/inject", review.to_string().as_bytes());
    assert_eq!(status, 200);
    assert!(
        body.contains("too_many_containers") && !body.contains("patch"),
        "{body}"
    );
}

#[test]
fn a_new_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let webhook = Webhook::start();
    let loads = |result: &str| {
        let line = format!("weir_injector_cert_loads_total{{result=\"{result}\"}} ");
        let (_, page) = webhook.get("/metrics");
        let count = page.lines().find_map(|known| known.strip_prefix(&line));
        count.unwrap().parse::<u64>().unwrap() > 0
    };
    // The key of another certificate, as between two writes.
    let key = webhook.certs.path().join("tls.key");
    let kept = fs::read(&key).unwrap();
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    fs::write(&key, other).unwrap();
    until("the broken pair to be noticed", || loads("failed"));
    assert_eq!(webhook.post("/inject", &review()).0, 200);
    fs::write(&key, kept).unwrap();
    let renewed = certify(webhook.certs.path());
    until("the new certificate", || {
        exchange(&mut webhook.connect(&renewed), "/inject", b"").0 == 400
    });
}

/// `weir-injector check` of a webhook at a port, with the CA in `authority`.
fn check(port: u16, authority: &Path, name: &str, patience: &str) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_weir-injector"))
        .args(["check", "--ip", "127.0.0.1", "--port", &port.to_string()])
        .args(["--name", name, "--patience", patience, "--ca"])
        .arg(authority)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (
        done.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn a_check_tells_a_webhook_that_works_from_one_that_an_api_server_would_not_trust_or_reach() {
    let webhook = Webhook::start();
    let (port, authority) = (webhook.reviews.port(), webhook.certs.path().join("tls.crt"));
    let (code, said) = check(port, &authority, "localhost", "30");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said,
        "/inject puts the sidecar into a pod\n/inject/restricted puts the sidecar into a pod\n"
    );
    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    let untrusted = check(port, &other.path().join("tls.crt"), "localhost", "0");
    let misnamed = check(port, &authority, "other.weir-system.svc", "0");
    for (code, said) in [&untrusted, &misnamed] {
        assert_eq!(*code, Some(2), "{said}");
        assert!(said.contains("certificate"), "{said}");
    }
    drop(webhook);
    let (code, said) = check(port, &other.path().join("tls.crt"), "localhost", "1");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("are the injector's pods ready"), "{said}");
    let bundle = Command::new(env!("CARGO_BIN_EXE_weir-injector"))
        .args([
            "check",
            "--ip",
            "127.0.0.1",
            "--name",
            "a",
            "--ca-bundle",
            "%",
        ])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&bundle.stderr).contains("not base64 of PEM"));
}

#[test]
fn a_webhook_that_is_told_to_end_answers_until_nobody_asks() {
    let mut webhook = Webhook::start();
    webhook.terminate();
    until("not to be ready", || webhook.get("/readyz").0 == 503);
    assert_eq!(webhook.post("/inject", &review()).0, 200);
    let begun = Instant::now();
    loop {
        if let Some(status) = webhook.child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn without_a_certificate_it_says_what_to_look_at() {
    let nowhere = PathBuf::from("/nowhere");
    let done = Command::new(env!("CARGO_BIN_EXE_weir-injector"))
        .args(["serve", "--certs"])
        .arg(nowhere)
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(2));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        said.contains("/nowhere/tls.crt") && said.contains("is the Secret"),
        "{said}"
    );
}
