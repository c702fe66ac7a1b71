//! As much of an API server as the injector's certificate needs: two objects, their versions, three kinds of patches, refusals.

use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Barrier;

pub(crate) const SECRET: &str = "/api/v1/namespaces/weir-system/secrets/weir-injector-self-certs";
pub(crate) const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/weir-injector";

/// A running API server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ApiServer {
    pub(crate) url: String,
    objects: Arc<Mutex<Objects>>,
}

#[derive(Debug, Default)]
struct Objects {
    secret: Option<Value>,
    configuration: Option<Value>,
    version: u64,
    /// What the service account may not do.
    forbidden: Option<(Method, &'static str)>,
    is_down: bool,
    conflicts: usize,
    /// The first reads of the Secret are answered at once, so that all who read know the same; how many are still to come.
    gather: Option<(usize, Arc<Barrier>)>,
    /// Keys of the Secret, and bundles, that were written.
    written: Vec<String>,
}

impl ApiServer {
    /// Starts it, with what Helm installs.
    pub(crate) async fn start() -> Self {
        let entry = |name: &str| {
            let service = json!({"name": "weir-injector", "namespace": "weir-system"});
            json!({
                "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"service": service},
            })
        };
        let objects = Objects {
            secret: Some(json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": "weir-injector-self-certs", "namespace": "weir-system", "resourceVersion": "1"},
            })),
            configuration: Some(json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "weir-injector", "resourceVersion": "1"},
                "webhooks": [entry("privileged.namespace.weir.dev"), entry("restricted.namespace.weir.dev")],
            })),
            version: 1,
            ..Objects::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            objects: Arc::new(Mutex::new(objects)),
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        server
    }

    fn with<T>(&self, act: impl FnOnce(&mut Objects) -> T) -> T {
        act(&mut self.objects.lock().unwrap())
    }

    /// What the API server trusts the webhook by, of each entry, in PEM.
    pub(crate) fn bundles(&self) -> Vec<Vec<u8>> {
        self.with(|objects| {
            let configuration = objects.configuration.as_ref().unwrap();
            let entries = configuration["webhooks"].as_array().unwrap();
            let bundle = |entry: &Value| entry["clientConfig"]["caBundle"].as_str().map(decoded);
            entries
                .iter()
                .map(|entry| bundle(entry).unwrap_or_default())
                .collect()
        })
    }

    /// What a key of the Secret has; empty if it has none.
    pub(crate) fn secret(&self, key: &str) -> Vec<u8> {
        self.with(|objects| {
            let secret = objects.secret.as_ref();
            let value = secret.and_then(|secret| secret["data"][key].as_str());
            value.map(decoded).unwrap_or_default()
        })
    }

    pub(crate) fn lose_data(&self) {
        self.with(|objects| {
            objects.version += 1;
            let version = objects.version.to_string();
            let secret = objects.secret.as_mut().unwrap();
            secret["data"] = json!({});
            secret["metadata"]["resourceVersion"] = version.into();
        });
    }

    pub(crate) fn delete_secret(&self) {
        self.with(|objects| objects.secret = None);
    }

    pub(crate) fn lose_bundles(&self) {
        self.with(|objects| {
            objects.version += 1;
            let version = objects.version.to_string();
            let configuration = objects.configuration.as_mut().unwrap();
            configuration["metadata"]["resourceVersion"] = version.into();
            for entry in configuration["webhooks"].as_array_mut().unwrap() {
                entry["clientConfig"]
                    .as_object_mut()
                    .unwrap()
                    .remove("caBundle");
            }
        });
    }

    /// The next `count` readers of the Secret get their answers together.
    pub(crate) fn gather(&self, count: usize) {
        self.with(|objects| objects.gather = Some((count, Arc::new(Barrier::new(count)))));
    }

    fn gathering(&self) -> Option<Arc<Barrier>> {
        self.with(|objects| {
            let (to_come, barrier) = objects
                .gather
                .as_mut()
                .filter(|(to_come, _)| *to_come > 0)?;
            *to_come -= 1;
            Some(Arc::clone(barrier))
        })
    }

    pub(crate) fn forbid(&self, forbidden: Option<(Method, &'static str)>) {
        self.with(|objects| objects.forbidden = forbidden);
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.with(|objects| objects.is_down = is_down);
    }

    pub(crate) fn conflicts(&self) -> usize {
        self.with(|objects| objects.conflicts)
    }

    /// How often this was written.
    pub(crate) fn written(&self, what: &str) -> usize {
        self.with(|objects| {
            objects
                .written
                .iter()
                .filter(|written| *written == what)
                .count()
        })
    }
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

async fn answer(State(server): State<ApiServer>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let answered = server.with(|objects| {
        if objects.is_down {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "etcd is away"));
        }
        objects.answer(&head.method, head.uri.path(), kind, &body)
    });
    let is_look = head.method == Method::GET && head.uri.path() == SECRET;
    if let Some(barrier) = is_look.then(|| server.gathering()).flatten() {
        barrier.wait().await;
    }
    let (status, body) = match answered {
        Ok(object) => (StatusCode::OK, object),
        Err((status, message)) => {
            let reason = match status {
                StatusCode::FORBIDDEN => "Forbidden",
                StatusCode::NOT_FOUND => "NotFound",
                StatusCode::CONFLICT => "Conflict",
                _ => "ServiceUnavailable",
            };
            let code = status.as_u16();
            let body = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": message, "reason": reason, "code": code,
            });
            (status, body)
        }
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, Body::from(body.to_string())).into_response()
}

impl Objects {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<Value, (StatusCode, &'static str)> {
        if self
            .forbidden
            .as_ref()
            .is_some_and(|(what, at)| what == method && *at == path)
        {
            return Err((StatusCode::FORBIDDEN, "RBAC says no"));
        }
        let object = match path {
            SECRET => &mut self.secret,
            CONFIGURATION => &mut self.configuration,
            _ => return Err((StatusCode::NOT_FOUND, "no such path")),
        };
        if *method == Method::GET {
            return object.clone().ok_or((StatusCode::NOT_FOUND, "not found"));
        }
        assert_eq!(*method, Method::PATCH);
        let mut change: Value = serde_json::from_slice(body).unwrap();
        if kind == "application/apply-patch+yaml" && object.is_none() {
            *object = Some(json!({}));
        }
        let Some(object) = object else {
            return Err((StatusCode::NOT_FOUND, "not found"));
        };
        let asked = &change["metadata"]["resourceVersion"];
        if !asked.is_null() && *asked != object["metadata"]["resourceVersion"] {
            self.conflicts += 1;
            return Err((StatusCode::CONFLICT, "the object has been modified"));
        }
        match kind {
            "application/apply-patch+yaml" | "application/merge-patch+json" => {
                let data = change["data"].as_object().into_iter().flatten();
                self.written.extend(data.map(|(key, _)| key.clone()));
            }
            "application/strategic-merge-patch+json" => {
                merge_entries(&object["webhooks"], &mut change["webhooks"]);
                self.written.push("bundle".to_owned());
            }
            other => panic!("a patch of the kind {other}"),
        }
        json_patch::merge(object, &change);
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        Ok(object.clone())
    }
}

/// Lists are merged by the entries' names.
fn merge_entries(into: &Value, patch: &mut Value) {
    let mut merged = into.clone();
    for change in patch.as_array().unwrap() {
        let entries = merged.as_array_mut().unwrap().iter_mut();
        let mut same = entries.filter(|entry| entry["name"] == change["name"]);
        json_patch::merge(same.next().unwrap(), change);
    }
    *patch = merged;
}
