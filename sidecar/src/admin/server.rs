//! Accepts the admin port's connections, few and not for long.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use control_api::places::{Place, Places};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tower::ServiceExt;

use super::Admin;
use super::audience::Audience;

/// Most connections at a time; for the next one the longest idle goes. Two scrapers, a kubelet and some browsers.
///
/// The port is open to the pod's network, and the kubelet's probes come by it: nobody may keep them out.
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
    let mut places = Places::new(CONNECTIONS_MAX);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            // Finished connections are collected, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let place = places.place();
                let connection = connection(socket, router.clone(), audience, place.clone());
                let handle = connections.spawn(connection);
                if let Some(idle) = places.enter(place, handle, AbortHandle::is_finished) {
                    tracing::debug!(
                        "all places of the admin port are taken: an idle connection is closed"
                    );
                    idle.abort();
                }
                // Its request is most likely there already, and is answered before the next one comes in.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, router: Router, audience: Audience, place: Place) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (asking, router) = (place.asks(), router.clone());
        async move {
            let answer = answer(router, request.map(Body::new), audience).await;
            drop(asking);
            answer
        }
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
