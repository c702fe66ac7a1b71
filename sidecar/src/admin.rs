//! The admin port: what a scrape, a kubelet and a person may look at, and nothing that changes anything.
//!
//! | path | what |
//! |---|---|
//! | `/metrics` | everything that is counted, as `OpenMetrics` text |
//! | `/livez` | 200 while every event loop runs |
//! | `/readyz` | 200 while calls are taken; 503 with the reason before that and while draining |
//! | `/` | the live page |
//! | `/live.json` | what the live page shows |
//!
//! It runs on the aux thread: a worker that is busy, or stuck, does not silence it, and a thousand readers do not slow a call.

mod audience;
mod live;
mod readiness;
mod refused;
mod server;

pub use readiness::{Readiness, State};
pub use server::serve;

use audience::Audience;
use live::Live;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use control_api::server::Introspect;
use tokio::time::Instant;

use crate::telemetry::Telemetry;
use crate::telemetry::metrics::exposition::{self, Exposition};

/// An event loop that has not run for this long will not run again: the kubelet may restart the proxy.
///
/// Far above any pause of a throttled or swapped process: a restart cuts every connection of the pod.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Everything that the admin port shows. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    telemetry: Telemetry,
    proxy: Arc<dyn Introspect>,
    readiness: Readiness,
    exposition: Exposition,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// Shows what `telemetry` counted and what `proxy` answers.
    #[must_use]
    pub fn new(telemetry: Telemetry, proxy: Arc<dyn Introspect>, readiness: Readiness) -> Self {
        let metrics = telemetry.metrics().clone();
        let exposition = Exposition::new(metrics, proxy.clone(), refused::input);
        Self(Arc::new(Inner {
            telemetry,
            proxy,
            readiness,
            exposition,
        }))
    }

    fn router(self, audience: Audience) -> Router {
        Router::new()
            .route("/", get(page))
            .route(
                "/live.json",
                get(move |admin| async move { live(&admin, audience) }),
            )
            .route("/metrics", get(metrics))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .with_state(self)
    }
}

async fn page() -> impl IntoResponse {
    (SAFE, Html(include_str!("admin/page.html")))
}

fn live(Shared(Admin(admin)): &Shared<Admin>, audience: Audience) -> impl IntoResponse + use<> {
    let mut live = Live::of(&admin.telemetry, admin.proxy.as_ref(), &admin.readiness);
    if audience == Audience::Network {
        live.hide_paths();
    }
    (SAFE, axum::Json(live))
}

async fn metrics(Shared(Admin(admin)): Shared<Admin>) -> Response {
    match admin.exposition.text() {
        Ok(page) => {
            let content = [(header::CONTENT_TYPE, exposition::CONTENT_TYPE)];
            (content, SAFE, page).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn livez(Shared(Admin(admin)): Shared<Admin>) -> (StatusCode, String) {
    let now = Instant::now();
    let workers = admin.telemetry.metrics().workers();
    let stuck = workers.iter().find_map(|worker| {
        let stalled = worker
            .stalled_for(now)
            .filter(|stalled| *stalled > STALL_MAX)?;
        Some(format!(
            "worker {} has not run for {stalled:?}\n",
            worker.name()
        ))
    });
    match stuck {
        None => (StatusCode::OK, "alive\n".to_owned()),
        Some(stuck) => (StatusCode::SERVICE_UNAVAILABLE, stuck),
    }
}

async fn readyz(Shared(Admin(admin)): Shared<Admin>) -> (StatusCode, String) {
    match admin.readiness.get() {
        State::Ready => (StatusCode::OK, "ready\n".to_owned()),
        state @ (State::Starting(_) | State::Draining) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", state.reason()),
        ),
    }
}

/// What a browser must not do with these pages: keep them, guess their type, frame them, or load anything from elsewhere.
const SAFE: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'",
    ),
];

#[cfg(test)]
mod tests;
