//! A pod: its manifest, and a real control server of a proxy whose calls end as its policy says.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use control_api::document::Document;
use control_api::server::{Introspect, Options, Server, UnknownLogLevel};
use control_api::store::{Expected, Sources, Store, Written};
use control_api::view::{Connection, Decision, DecisionFilter, Destination, Origin, Status};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A policy that limits a destination to so many calls.
pub(crate) fn policy(limit: u32) -> String {
    format!(
        "# kept as it was written\nversion: weir/v1\ndefaults: {{admission: {{limit: {limit}}}}}\n"
    )
}

/// A policy under which half of the calls fail.
pub(crate) const BAD_LIMIT: u32 = 1;

/// A proxy whose destination has some more calls each time that one looks.
struct Counting {
    store: Arc<Store>,
    began: Arc<Mutex<Instant>>,
    calls_a_look: Arc<AtomicU64>,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Introspect for Counting {
    fn status(&self) -> Status {
        let uptime = self.began.lock().unwrap().elapsed();
        Status {
            uptime_ms: uptime.as_millis().try_into().unwrap(),
            policy: self.store.status(),
            ..Status::default()
        }
    }

    fn destinations(&self) -> Vec<Destination> {
        let limit = self.store.current().policy.defaults().admission.limit;
        let calls = self.calls_a_look.load(Ordering::Relaxed);
        let failed = if limit == BAD_LIMIT { calls / 2 } else { 0 };
        let add = |count: &AtomicU64, more| count.fetch_add(more, Ordering::Relaxed) + more;
        let answered = add(&self.answered, calls - failed);
        let failed = add(&self.failed, failed);
        vec![Destination {
            name: "payments:80".to_owned(),
            outcomes: [("answered", answered), ("failed", failed)]
                .map(|(what, count)| (what.to_owned(), count))
                .into(),
            ..Destination::default()
        }]
    }

    fn decisions(&self, _: &DecisionFilter) -> Vec<Decision> {
        Vec::new()
    }

    fn connections(&self) -> Vec<Connection> {
        Vec::new()
    }

    fn set_log_level(&self, _: &str) -> Result<(), UnknownLogLevel> {
        Ok(())
    }
}

/// A pod.
pub(crate) struct Pod {
    pub(crate) manifest: Mutex<Value>,
    pub(crate) socket: PathBuf,
    pub(crate) store: Arc<Store>,
    began: Arc<Mutex<Instant>>,
    pub(crate) calls_a_look: Arc<AtomicU64>,
    served: JoinHandle<()>,
    _dir: TempDir,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Pod {
    pub(crate) fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let (store, _) = Store::open(Sources::default());
        let calls_a_look = Arc::new(AtomicU64::new(100));
        let began = Arc::new(Mutex::new(Instant::now()));
        let proxy = Arc::new(Counting {
            store: Arc::clone(&store),
            began: Arc::clone(&began),
            calls_a_look: Arc::clone(&calls_a_look),
            answered: AtomicU64::default(),
            failed: AtomicU64::default(),
        });
        let options = Options::at(socket.clone());
        let server = Server::bind(options, Arc::clone(&store), proxy).unwrap();
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "checkout"}},
            "spec": {
                "initContainers": [
                    {"name": "weir-redirect", "image": "weir"},
                    {"name": "weir-proxy", "image": "weir", "volumeMounts": [{"name": "weir-policy", "mountPath": "/etc/weir/policy"}]},
                ],
                "containers": [{"name": "app", "image": "app"}],
                "volumes": [{"name": "weir-policy", "configMap": {"name": "weir-policy", "optional": true}}],
            },
            "status": {"phase": "Running"},
        });
        Self {
            manifest: Mutex::new(manifest),
            socket,
            store,
            began,
            calls_a_look,
            served: tokio::spawn(server.serve(std::future::pending())),
            _dir: dir,
        }
    }

    /// The limit and the revision in force.
    pub(crate) fn runs(&self) -> (u32, u64) {
        let active = self.store.current();
        (active.policy.defaults().admission.limit, active.revision)
    }

    /// The proxy starts again, with the policy that it had.
    pub(crate) fn starts_again(&self) {
        *self.began.lock().unwrap() = Instant::now();
    }

    /// Somebody else writes the policy.
    pub(crate) fn write(&self, limit: u32) {
        let document = Document::parse(&policy(limit)).unwrap();
        let written = Written::now(Origin::File);
        self.store
            .apply(document, written, Expected::Anything)
            .unwrap();
    }
}
