//! The API server: pods and `ConfigMap`s of one namespace, over plain HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::exec;
use crate::pod::Pod;

/// What is done before an exec: with the pod's name and the command.
pub(crate) type Before = Box<dyn Fn(&str, &[String]) -> After + Send + Sync>;

/// What becomes of an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It is run.
    Runs,
    /// It never begins.
    Hangs,
    /// It is answered with an error.
    Fails,
}

/// What the cluster holds.
pub(crate) struct Cluster {
    pub(crate) pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    pub(crate) config_maps: Mutex<BTreeMap<String, Value>>,
    versions: AtomicU64,
    /// Resources that may not be touched, by their names.
    pub(crate) forbidden: Mutex<Vec<&'static str>>,
    /// Rights that were needed: a resource and a verb.
    pub(crate) asked: Mutex<BTreeSet<(&'static str, &'static str)>>,
    pub(crate) before_exec: Mutex<Before>,
    pub(crate) execs: Mutex<Vec<(String, String)>>,
    pub(crate) protocol: Mutex<&'static str>,
    pub(crate) ended: tokio::sync::watch::Sender<usize>,
    /// Who is told that a `ConfigMap` is to be made, which then never ends.
    pub(crate) stuck: Mutex<Option<tokio::sync::watch::Sender<bool>>>,
}

impl Cluster {
    pub(crate) fn pod(&self, name: &str) -> Arc<Pod> {
        Arc::clone(&self.pods.lock().unwrap()[name])
    }

    pub(crate) fn change(&self, pod: &str, change: impl FnOnce(&mut Value)) {
        change(&mut self.pod(pod).manifest.lock().unwrap());
    }

    pub(crate) fn forbid(&self, resource: &'static str) {
        self.forbidden.lock().unwrap().push(resource);
    }

    pub(crate) fn before_exec(
        &self,
        before: impl Fn(&str, &[String]) -> After + Send + Sync + 'static,
    ) {
        *self.before_exec.lock().unwrap() = Box::new(before);
    }

    /// How often this command was run in this pod; `""` is any.
    pub(crate) fn count(&self, pod: &str, command: &str) -> usize {
        let execs = self.execs.lock().unwrap();
        let execs = execs.iter();
        execs
            .filter(|(in_pod, words)| in_pod.contains(pod) && words.starts_with(command))
            .count()
    }

    /// What each pod runs: its limit and its revision.
    pub(crate) fn runs(&self) -> Vec<(u32, u64)> {
        self.pods
            .lock()
            .unwrap()
            .values()
            .map(|pod| pod.runs())
            .collect()
    }

    pub(crate) fn config_map(&self, name: &str) -> Value {
        self.config_maps
            .lock()
            .unwrap()
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    /// Writes a `ConfigMap`, as somebody else would.
    pub(crate) fn write_config_map(&self, name: &str, data: &Value) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed).to_string();
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": name, "namespace": "shop", "resourceVersion": version, "labels": {"kept": "yes"}},
        });
        self.config_maps
            .lock()
            .unwrap()
            .insert(name.to_owned(), map);
    }
}

/// A cluster that runs, and a kubeconfig that leads to it. Dropped, it stops.
pub(crate) struct Running {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) dir: TempDir,
    served: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Running {
    /// A cluster with pods of these names.
    pub(crate) async fn start(pods: &[&str]) -> Self {
        let pods = pods
            .iter()
            .map(|name| ((*name).to_owned(), Arc::new(Pod::start(name))));
        let cluster = Arc::new(Cluster {
            pods: Mutex::new(pods.collect()),
            config_maps: Mutex::default(),
            versions: AtomicU64::new(1),
            forbidden: Mutex::default(),
            asked: Mutex::default(),
            before_exec: Mutex::new(Box::new(|_, _| After::Runs)),
            execs: Mutex::default(),
            protocol: Mutex::new("v5.channel.k8s.io"),
            ended: tokio::sync::watch::Sender::new(0),
            stuck: Mutex::default(),
        });
        let namespace = Router::new()
            .route("/pods", get(list))
            .route("/pods/{name}", get(pod))
            .route("/pods/{name}/exec", get(run))
            .route("/configmaps", axum::routing::post(create))
            .route("/configmaps/{name}", put(replace).get(config_map))
            .with_state(Arc::clone(&cluster));
        let router = Router::new().nest("/api/v1/namespaces/shop", namespace);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let address = listener.local_addr().unwrap();
        let context = |name: &str, cluster: &str| json!({"name": name, "context": {"cluster": cluster, "user": "me", "namespace": "shop"}});
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "contexts": [context("here", "here"), context("nowhere", "nowhere")],
            "clusters": [
                {"name": "here", "cluster": {"server": format!("http://{address}")}},
                {"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}},
            ],
            "users": [{"name": "me", "user": {}}],
        });
        fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let served = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self {
            cluster,
            dir,
            served,
        }
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

type Shared = State<Arc<Cluster>>;

/// What is wrong.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    /// As an API server says it.
    fn into_response(self) -> Response {
        let Self(code, message) = self;
        let reason = match code {
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::CONFLICT => "Conflict",
            _ => "BadRequest",
        };
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "reason": reason, "message": message, "code": code.as_u16(),
        });
        (code, Json(status)).into_response()
    }
}

fn status(code: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal(code, message.into())
}

impl Cluster {
    /// Whether this may be done; that it was asked for is remembered.
    fn allowed(&self, verb: &'static str, resource: &'static str) -> Result<(), Refusal> {
        self.asked.lock().unwrap().insert((resource, verb));
        let forbidden = self.forbidden.lock().unwrap();
        if forbidden.contains(&resource) {
            let message = format!("User \"me\" cannot touch resource \"{resource}\"");
            return Err(status(StatusCode::FORBIDDEN, message));
        }
        Ok(())
    }

    fn found(&self, name: &str) -> Result<Arc<Pod>, Refusal> {
        let pods = self.pods.lock().unwrap();
        let message = format!("pods \"{name}\" not found");
        pods.get(name)
            .cloned()
            .ok_or_else(|| status(StatusCode::NOT_FOUND, message))
    }
}

/// Two pods a page.
async fn list(
    State(cluster): Shared,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    cluster.allowed("list", "pods")?;
    let selector = query.get("labelSelector").map_or("", String::as_str);
    let after = query.get("continue").cloned().unwrap_or_default();
    let pods = cluster.pods.lock().unwrap();
    let manifests = pods.iter().filter(|(name, _)| **name > after);
    let manifests = manifests.map(|(_, pod)| pod.manifest.lock().unwrap().clone());
    let matches = |manifest: &Value| {
        format!(
            "app={}",
            manifest["metadata"]["labels"]["app"].as_str().unwrap()
        ) == selector
    };
    let mut found: Vec<Value> = manifests.filter(matches).collect();
    let more = found.len() > 2;
    found.truncate(2);
    let last = found.last().map(|pod| pod["metadata"]["name"].clone());
    let token = last.filter(|_| more).unwrap_or_default();
    let metadata = json!({"resourceVersion": "1", "continue": token.as_str().unwrap_or_default()});
    Ok(
        Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": found}))
            .into_response(),
    )
}

async fn pod(State(cluster): Shared, Path(name): Path<String>) -> Result<Response, Refusal> {
    cluster.allowed("get", "pods")?;
    let pod = cluster.found(&name)?;
    let manifest = pod.manifest.lock().unwrap().clone();
    Ok(Json(manifest).into_response())
}

async fn run(
    State(cluster): Shared,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refusal> {
    cluster.allowed("get", "pods/exec")?;
    let words = query.iter().filter(|(key, _)| key == "command");
    let words: Vec<String> = words.map(|(_, word)| word.clone()).collect();
    let after = cluster.before_exec.lock().unwrap()(&name, &words[1..]);
    match after {
        After::Runs => {}
        After::Hangs => std::future::pending().await,
        After::Fails => return Err(status(StatusCode::INTERNAL_SERVER_ERROR, "it fell over")),
    }
    let pod = cluster.found(&name)?;
    if !query.contains(&("container".to_owned(), "weir-proxy".to_owned())) {
        return Err(status(StatusCode::BAD_REQUEST, "container is not valid"));
    }
    cluster
        .execs
        .lock()
        .unwrap()
        .push((name, words[1..].join(" ")));
    Ok(exec::upgrade(request, words, pod, &cluster))
}

async fn config_map(State(cluster): Shared, Path(name): Path<String>) -> Result<Response, Refusal> {
    cluster.allowed("get", "configmaps")?;
    let map = cluster.config_map(&name);
    if map.is_null() {
        return Err(status(StatusCode::NOT_FOUND, "not found"));
    }
    Ok(Json(map).into_response())
}

async fn create(State(cluster): Shared, Json(map): Json<Value>) -> Result<Response, Refusal> {
    cluster.allowed("create", "configmaps")?;
    let stuck = cluster.stuck.lock().unwrap().clone();
    if let Some(told) = stuck {
        told.send_replace(true);
        std::future::pending::<()>().await;
    }
    let name = map["metadata"]["name"].as_str().unwrap().to_owned();
    if !cluster.config_map(&name).is_null() {
        return Err(status(StatusCode::CONFLICT, "already exists"));
    }
    cluster.write_config_map(&name, &map["data"]);
    Ok((StatusCode::CREATED, Json(cluster.config_map(&name))).into_response())
}

async fn replace(
    State(cluster): Shared,
    Path(name): Path<String>,
    Json(map): Json<Value>,
) -> Result<Response, Refusal> {
    cluster.allowed("update", "configmaps")?;
    let version = &map["metadata"]["resourceVersion"];
    if *version != cluster.config_map(&name)["metadata"]["resourceVersion"] {
        return Err(status(StatusCode::CONFLICT, "the object has been modified"));
    }
    cluster.write_config_map(&name, &map["data"]);
    Ok(Json(cluster.config_map(&name)).into_response())
}
