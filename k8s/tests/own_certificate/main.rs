//! The injector's own certificate, before an API server that knows versions: races, rights, losses, and handshakes all along.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and its helpers are tests too; servers are waited for in real time"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use k8s::webhook::own::contents::certificates;
use tokio::net::TcpStream;
use tokio::sync::watch;

use api_server::{ApiServer, CONFIGURATION, SECRET};
use replica::{Replica, bound, cluster, is_ready};

mod api_server;
mod replica;

/// Longest that anything here may take; the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `is_true` is.
macro_rules! until {
    ($what:expr, $is_true:expr) => {
        let begun = Instant::now();
        while !$is_true {
            assert!(begun.elapsed() < PATIENCE, "waited in vain: {}", $what);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
}

#[tokio::test]
async fn replicas_that_start_at_once_end_up_with_one_ca_and_one_leaf() {
    let server = ApiServer::start().await;
    server.gather(4);
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(Replica::start(&server));
    }
    let bundle = |server: &ApiServer| server.bundles()[0].clone();
    for replica in &replicas {
        until!("a replica to be ready", replica.is_ready().await);
        // Readiness means that admission works.
        replica.handshake(&bundle(&server)).await.unwrap();
    }
    assert_eq!(server.written("ca.crt"), 1);
    assert_eq!(server.written("tls.crt"), 1);
    assert_eq!(server.written("bundle"), 1);
    assert!(server.conflicts() >= 3, "they did not race");
    assert_eq!(certificates(&bundle(&server)).len(), 1);
    assert_eq!(server.bundles()[0], server.bundles()[1]);
    let leaf = certificates(&server.secret("tls.crt")).remove(0);
    for replica in &replicas {
        assert_eq!(replica.handshake(&bundle(&server)).await.unwrap(), leaf);
    }
}

/// Shakes hands with both without a pause, by the bundle of that moment, until told to stop; gives how often.
async fn handshakes(
    server: ApiServer,
    replicas: Arc<[Replica; 2]>,
    stop: watch::Receiver<bool>,
) -> usize {
    let mut count = 0;
    while !*stop.borrow() {
        let replica = &replicas[count % 2];
        for bundle in server.bundles() {
            let shaken = replica.handshake(&bundle).await;
            shaken.unwrap_or_else(|error| panic!("handshake {count} failed: {error}"));
        }
        count += 1;
    }
    count
}

#[tokio::test]
async fn no_handshake_fails_while_the_ca_is_lost_again_and_again() {
    let server = ApiServer::start().await;
    let replicas = [Replica::start(&server), Replica::start(&server)];
    for replica in &replicas {
        until!("a replica to be ready", replica.is_ready().await);
    }
    let replicas = Arc::new(replicas);
    let (stop, stopping) = watch::channel(false);
    let shaking = tokio::spawn(handshakes(server.clone(), Arc::clone(&replicas), stopping));
    let losses: [fn(&ApiServer); 3] = [
        ApiServer::lose_data,
        ApiServer::delete_secret,
        ApiServer::lose_data,
    ];
    for (number, lose) in losses.iter().enumerate() {
        let before = server.secret("tls.crt");
        lose(&server);
        until!("a new leaf", {
            let leaf = server.secret("tls.crt");
            !leaf.is_empty() && leaf != before
        });
        let leaf = certificates(&server.secret("tls.crt")).remove(0);
        for replica in replicas.iter() {
            let bundle = || server.bundles()[0].clone();
            until!(
                "the new leaf to be served",
                replica.handshake(&bundle()).await.unwrap() == leaf
            );
        }
        assert_eq!(certificates(&server.bundles()[0]).len(), number + 2);
    }
    stop.send_replace(true);
    let count = shaking.await.unwrap();
    assert!(count > 20, "only {count} handshakes");
    assert_eq!(server.written("ca.crt"), 4);
}

#[tokio::test]
async fn a_bundle_that_was_taken_away_is_put_back() {
    let server = ApiServer::start().await;
    let replica = Replica::start(&server);
    until!("the replica to be ready", replica.is_ready().await);
    let bundles = server.bundles();
    server.lose_bundles();
    until!("the bundle", server.bundles() == bundles);
    assert!(replica.is_ready().await);
    assert_eq!(server.written("ca.crt"), 1);
    let metrics = replica.get("/metrics").await;
    assert!(
        metrics.contains("weir_injector_cert_renewals_total{result=\"bundle\"} 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_the_api_server_the_certificate_is_served_on() {
    let server = ApiServer::start().await;
    let replica = Replica::start(&server);
    until!("the replica to be ready", replica.is_ready().await);
    let expiry = replica.get("/metrics").await;
    assert!(
        !expiry.contains("cert_expiry_timestamp_seconds 0"),
        "{expiry}"
    );
    server.set_down(true);
    until!("the failure to be counted", {
        replica
            .get("/metrics")
            .await
            .contains("cert_checks_total{result=\"refused\"}")
    });
    assert!(replica.is_ready().await);
    replica.handshake(&server.bundles()[0]).await.unwrap();
    // And it goes on when the API server is back.
    server.lose_bundles();
    server.set_down(false);
    until!("the bundle", !server.bundles()[0].is_empty());
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_nobody_is_sent_here_without_it() {
    let server = ApiServer::start().await;
    server.forbid(Some((Method::PATCH, CONFIGURATION)));
    let replica = Replica::start(&server);
    until!("the failure to be counted", {
        replica
            .get("/metrics")
            .await
            .contains("cert_checks_total{result=\"forbidden\"}")
    });
    assert!(replica.get("/readyz").await.contains("503"));
    assert!(replica.handshake(&server.secret("ca.crt")).await.is_err());
    let look = cluster(&server).look().await.unwrap();
    let error = cluster(&server).write_bundle(&look, "").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "may not patch mutatingwebhookconfigurations weir-injector: RBAC says no; do the rights of the injector's service account name it?"
    );
    server.forbid(Some((Method::GET, SECRET)));
    let error = cluster(&server).look().await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("may not get secrets weir-system/weir-injector-self-certs: "),
        "{error}"
    );
    server.forbid(None);
    until!("the replica to be ready", replica.is_ready().await);
}

#[tokio::test]
async fn an_api_server_that_is_not_there_is_named_with_what_to_look_at() {
    let server = ApiServer::start().await;
    let mut elsewhere = server.clone();
    let unused = bound().local_addr().unwrap();
    elsewhere.url = format!("http://{unused}");
    let error = cluster(&elsewhere).look().await.unwrap_err();
    assert_eq!(error.code(), "unreachable");
    let said = error.to_string();
    assert!(
        said.contains("refused") && said.contains("NetworkPolicy"),
        "{said}"
    );
}

/// `weir-injector serve`, which finds the API server by a kubeconfig.
struct Injector(std::process::Child);

impl Drop for Injector {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn the_injector_itself_is_ready_once_it_is_trusted_and_ends_when_told() {
    let server = ApiServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let cluster = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": server.url}}],
        "users": [{"name": "it", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    std::fs::write(&kubeconfig, cluster.to_string()).unwrap();
    let admin = bound().local_addr().unwrap();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_weir-injector"))
        .args([
            "serve",
            "--addr",
            "127.0.0.1:0",
            "--linger",
            "0",
            "--admin-addr",
        ])
        .arg(admin.to_string())
        .args([
            "--self-certs",
            "weir-injector-self-certs",
            "--service",
            "weir-injector",
        ])
        .args(["--webhook-configuration", "weir-injector"])
        .env("WEIR_INJECTOR_NAMESPACE", "weir-system")
        .env("KUBECONFIG", &kubeconfig)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut injector = Injector(child);
    until!(
        "the injector to listen",
        TcpStream::connect(admin).await.is_ok()
    );
    until!("the injector to be ready", is_ready(admin).await);
    assert!(!server.secret("tls.crt").is_empty() && !server.bundles()[1].is_empty());
    let id = injector.0.id().to_string();
    let told = std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status();
    assert!(told.unwrap().success());
    until!(
        "the injector to end",
        injector.0.try_wait().unwrap().is_some()
    );
    assert!(injector.0.wait().unwrap().success());
}
