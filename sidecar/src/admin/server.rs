//! Accepts the admin port's connections, few and not for long.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::Admin;
use super::audience::Audience;

/// Most connections at a time; the next one waits in the listener's backlog. Two scrapers, a kubelet and some browsers.
const CONNECTIONS_MAX: usize = 32;

/// Longest that a request's head may take, idle time before it included.
const HEAD_MAX: Duration = Duration::from_secs(15);

/// Longest that a connection may live: what holds on to one is cut, and a scraper connects again.
const CONNECTION_MAX: Duration = Duration::from_mins(2);

/// Largest request head in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after an error of the listener, which is most likely a want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin port until `stop` is ready; connections end with it.
///
/// # Errors
/// If the listener has no address, which means that it is none.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let audience = Audience::of(listener.local_addr()?.ip());
    let router = admin.router(audience);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            // Finished connections are collected, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((socket, place)) => {
                let router = router.clone();
                connections.spawn(async move {
                    connection(socket, router, audience).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// Waits for a place, then for a connection. Cancel-safe: a place that was taken is given back.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, Place)> {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    Ok((socket, place))
}

async fn connection(socket: TcpStream, router: Router, audience: Audience) {
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move { answer(router, request.map(Body::new), audience).await }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    match tokio::time::timeout(CONNECTION_MAX, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
        Err(_) => tracing::debug!("an admin connection was cut for its age"),
    }
}

async fn answer(
    router: Router,
    request: Request<Body>,
    audience: Audience,
) -> Result<Response, Infallible> {
    if !audience.may_ask(&request) {
        let refusal = (StatusCode::MISDIRECTED_REQUEST, "this name is not mine\n");
        return Ok(refusal.into_response());
    }
    router.oneshot(request).await
}
