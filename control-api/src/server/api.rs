//! The control API's resources, by path.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::{HeaderValue, Uri, header};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::refusal::Refusal;
use super::{Introspect, OPENAPI, live, policy, watch};
use crate::document::{BYTES_MAX, SCHEMA};
use crate::store::Store;

/// What every handler can reach.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) store: Arc<Store>,
    pub(super) proxy: Arc<dyn Introspect>,
    /// A permit for each caller that watches.
    pub(super) watchers: Arc<Semaphore>,
}

/// The API without its way in.
pub(super) fn router(store: Arc<Store>, proxy: Arc<dyn Introspect>) -> Router {
    let api = Api {
        store,
        proxy,
        watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
    };
    Router::new()
        .route(
            "/v1/policy",
            get(policy::read).put(policy::replace).patch(policy::patch),
        )
        .route("/v1/revisions", get(policy::revisions))
        .route("/v1/revisions/{revision}", get(policy::revision))
        .route("/v1/revisions/{revision}/rollback", post(policy::rollback))
        .route("/v1/watch", get(watch::watch))
        .route("/v1/status", get(live::status))
        .route("/v1/destinations", get(live::destinations))
        .route("/v1/decisions", get(live::decisions))
        .route("/v1/connections", get(live::connections))
        .route("/v1/log-level", put(live::set_log_level))
        .route("/v1/schema", get(async || constant(SCHEMA, SCHEMA_JSON)))
        .route("/v1/openapi.json", get(async || constant(OPENAPI, JSON)))
        .fallback(async |uri: Uri| Refusal::NoResource(uri.path().to_owned()))
        .method_not_allowed_fallback(async || Refusal::NoMethod)
        .layer(DefaultBodyLimit::max(BYTES_MAX))
        .with_state(api)
}

/// A successful answer.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the control API's answer cannot be written as JSON");
            Refusal::Failed.into_response()
        }
    }
}

fn constant(text: &'static str, content_type: HeaderValue) -> Response {
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SCHEMA_JSON: HeaderValue = HeaderValue::from_static("application/schema+json");
/// Most callers that watch at a time: half of all connections, so that watchers never lock an operator out.
const WATCHERS_MAX: usize = 32;
