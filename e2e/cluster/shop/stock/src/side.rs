//! The port for tests, all of it by GET so that the API server's pod proxy reaches it.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::fault::{Asked, Fault};
use crate::gate::Gate;

/// What is answered at port 9000.
pub(crate) fn router(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route(
            "/counts",
            get(async |State(gate): State<Arc<Gate>>| Json(gate.counts())),
        )
        .route(
            "/last",
            get(async |State(gate): State<Arc<Gate>>| Json(gate.last())),
        )
        .route("/fault", get(fault))
        .route("/reset", get(reset))
        .with_state(gate)
}

async fn ready(State(gate): State<Arc<Gate>>) -> Response {
    if gate.is_ending() {
        (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

async fn fault(
    State(gate): State<Arc<Gate>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let fault = match asked {
        Ok(Query(asked)) => Fault::try_from(asked).map_err(str::to_owned),
        Err(rejection) => Err(rejection.body_text()),
    };
    match fault {
        Ok(fault) => {
            gate.set(fault);
            "set\n".into_response()
        }
        Err(reason) => (StatusCode::BAD_REQUEST, reason + "\n").into_response(),
    }
}

async fn reset(State(gate): State<Arc<Gate>>) -> &'static str {
    gate.reset();
    "reset\n"
}
