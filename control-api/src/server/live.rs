//! What the proxy really does: status, destinations, decisions, connections, log level.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::Response;
use http::HeaderMap;

use super::api::{Api, json};
use super::policy::{JSON_TYPES, body_text, check_media_type};
use super::refusal::Refusal;
use crate::view::{DecisionFilter, Items, LogLevel};

/// `GET /v1/status`
pub(super) async fn status(State(api): State<Api>) -> Response {
    json(&api.proxy.status())
}

/// `GET /v1/destinations`
pub(super) async fn destinations(State(api): State<Api>) -> Response {
    json(&Items {
        items: api.proxy.destinations(),
    })
}

/// `GET /v1/decisions?trace=&destination=&since=&limit=`
pub(super) async fn decisions(
    State(api): State<Api>,
    filter: Result<Query<DecisionFilter>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(mut filter) =
        filter.map_err(|rejection| Refusal::Malformed(rejection.body_text()))?;
    filter.limit = Some(filter.limit.unwrap_or(DECISIONS).min(DECISIONS_MAX));
    Ok(json(&Items {
        items: api.proxy.decisions(&filter),
    }))
}

/// `GET /v1/connections`
pub(super) async fn connections(State(api): State<Api>) -> Response {
    json(&Items {
        items: api.proxy.connections(),
    })
}

/// `PUT /v1/log-level`
pub(super) async fn set_log_level(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    check_media_type(&headers, &JSON_TYPES)?;
    let wanted: LogLevel = serde_json::from_str(&body_text(body)?)
        .map_err(|error| Refusal::Malformed(format!("{error}; send {{\"level\": \"debug\"}}")))?;
    api.proxy
        .set_log_level(&wanted.level)
        .map_err(|error| Refusal::Malformed(format!("level: {error}")))?;
    tracing::info!(level = wanted.level, "log level changed");
    Ok(json(&wanted))
}

/// Decisions in an answer that does not say how many.
const DECISIONS: usize = 100;
/// Most decisions in an answer.
const DECISIONS_MAX: usize = 10_000;
