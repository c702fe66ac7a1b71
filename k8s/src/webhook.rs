//! The admission webhook: reviews by HTTPS, and a plain port for metrics and probes beside it.
//!
//! | path | what |
//! |---|---|
//! | `POST /inject` | a pod of a namespace that allows redirect rules |
//! | `POST /inject/restricted` | one of a namespace whose Pod Security forbids them; the webhook's configuration knows which |
//! | `GET /metrics`, `/livez`, `/readyz` | on the other port |

mod bodies;
pub mod certificate;
pub mod listener;
pub mod metrics;
pub mod own;
mod validity;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::time::Instant;

use crate::inject::PodSecurity;
use crate::review::{self, MalformedReview};
use crate::settings::Settings;
use bodies::{Bodies, Unread};
use certificate::Served;
use metrics::Metrics;

/// What requests are answered with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhook {
    settings: Arc<Settings>,
    bodies: Bodies,
    metrics: Arc<Metrics>,
    served: Arc<Served>,
    retired: Arc<AtomicBool>,
}

impl Webhook {
    /// Answers by `settings`; is ready once a certificate is served.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>, served: Arc<Served>) -> Self {
        Self {
            settings: Arc::new(settings),
            bodies: Bodies::new(),
            metrics,
            served,
            retired: Arc::default(),
        }
    }

    /// From now on `/readyz` says no, so that requests go elsewhere; those that come are answered.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// What is served to the API server.
    pub fn reviews(&self) -> Router {
        Router::new()
            .route(
                "/inject",
                post(|State(webhook): State<Self>, request: Request| async move {
                    webhook.answer(request, PodSecurity::AllowsNetAdmin).await
                }),
            )
            .route(
                "/inject/restricted",
                post(|State(webhook): State<Self>, request: Request| async move {
                    webhook.answer(request, PodSecurity::ForbidsNetAdmin).await
                }),
            )
            .with_state(self.clone())
    }

    /// What is served to scrapers and the kubelet.
    pub fn admin(&self) -> Router {
        Router::new()
            .route("/metrics", get(exposition))
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(readyz))
            .with_state(self.clone())
    }

    async fn answer(&self, request: Request, pod_security: PodSecurity) -> Response {
        let begun = Instant::now();
        let (result, response) = self.reviewed(request.into_body(), pod_security).await;
        self.metrics.answered(result, begun.elapsed());
        response
    }

    async fn reviewed(&self, body: Body, pod_security: PodSecurity) -> (&'static str, Response) {
        let refuse = |status: StatusCode, reason: String| {
            tracing::warn!(%status, %reason, "a review was refused");
            let result = match status {
                StatusCode::BAD_REQUEST => MALFORMED,
                _ => OVER_LIMIT,
            };
            (result, (status, format!("{reason}\n")).into_response())
        };
        let body = match self.bodies.read(body).await {
            Ok(body) => body,
            Err(unread) => return refuse(status(&unread), unread.to_string()),
        };
        match review::answer(&body.bytes, pod_security, &self.settings) {
            Ok(reviewed) => (reviewed.code, axum::Json(reviewed.answer).into_response()),
            Err(error @ MalformedReview::TooManyValues) => {
                refuse(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
            }
            Err(error) => refuse(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
}

fn status(unread: &Unread) -> StatusCode {
    match unread {
        Unread::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Unread::BrokenOff(_) => StatusCode::BAD_REQUEST,
        Unread::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Unread::TooManyLarge => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn exposition(State(webhook): State<Webhook>) -> Response {
    match webhook.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn readyz(State(webhook): State<Webhook>) -> (StatusCode, &'static str) {
    if webhook.retired.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "ending\n")
    } else if webhook.served.current().is_none() {
        let reason = "no certificate is served yet; the log says what it waits for\n";
        (StatusCode::SERVICE_UNAVAILABLE, reason)
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// The result, in the metric, of what is no review.
pub const MALFORMED: &str = "malformed";

/// The result, in the metric, of what is too large, too slow, or too much at a time.
pub const OVER_LIMIT: &str = "over_limit";
