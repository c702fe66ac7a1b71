//! The Rust part of the demo shop: how many of an item are left, over HTTP/2 without TLS (and HTTP/1).

mod fault;
mod gate;
mod side;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use gate::Gate;

/// What requests get to end in, once no new ones are taken. With the drain it is below the pod's grace of 15 s.
const END_TIME: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let gate = Arc::new(Gate::default());
    let side = listen(port("SIDE_PORT", 9000)?).await?;
    let stock = listen(port("PORT", 8080)?).await?;
    let shop = Router::new()
        .route("/stock/{item}", get(left))
        .with_state(Arc::clone(&gate));
    let mut told = signal(SignalKind::terminate())?;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(stock, shop).with_graceful_shutdown(async {
        // A sender that is gone ends the service as well.
        let _: Result<(), _> = ended.await;
    });
    let serving = tokio::spawn(async { serving.await });
    let side = tokio::spawn(axum::serve(side, side::router(Arc::clone(&gate))).into_future());

    told.recv().await;
    gate.end();
    // Unready, it goes on serving until no caller is told of it any more.
    tokio::time::sleep(drain()?).await;
    drop(end);
    let result = tokio::time::timeout(END_TIME, serving).await;
    side.abort();
    match result {
        Ok(Ok(served)) => served,
        Ok(Err(failed)) => Err(io::Error::other(failed)),
        Err(_) => Err(io::Error::other("requests did not end in time")),
    }
}

async fn left(
    State(gate): State<Arc<Gate>>,
    Path(item): Path<String>,
    headers: HeaderMap,
) -> Response {
    let visit = gate.enter(&headers).await;
    let mut response = match visit.verdict() {
        Some(status) => (status, Json(json!({"error": "told to fail"}))).into_response(),
        None => Json(json!({
            "service": "stock",
            "pod": std::env::var("HOSTNAME").unwrap_or_default(),
            "item": item,
            "left": item.len() * 12,
            "traceparent": headers.get("traceparent").and_then(|value| value.to_str().ok()),
        }))
        .into_response(),
    };
    if gate.is_ending() {
        // The caller's next request goes to another pod. HTTP/2 has no such field: there the connection ends with a GOAWAY.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    visit.leave(response.status() < StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn port(name: &str, otherwise: u16) -> io::Result<u16> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .map_err(|_| io::Error::other(format!("{name}: `{text}` is no port"))),
        Err(_) => Ok(otherwise),
    }
}

fn drain() -> io::Result<Duration> {
    let text = std::env::var("SHOP_DRAIN").unwrap_or_else(|_| "3s".to_owned());
    fault::duration(&text).ok_or_else(|| io::Error::other(format!("SHOP_DRAIN: `{text}`")))
}

/// Both families by one socket; IPv4 alone where the machine has no IPv6.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}
