//! Accepts connections, not too many and not for ever, and ends them well.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use control_api::places::{Place, Places};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::certificate::Served;

/// What a port speaks.
#[derive(Debug, Clone)]
pub enum Security {
    /// Plain HTTP.
    None,
    /// HTTPS, with the certificate that is current when a connection begins.
    Tls(Arc<Served>),
}

/// Serves `router` until `stop` is true; then lets what has begun finish, for at most [`FINISH_MAX`].
pub async fn serve(
    listener: TcpListener,
    security: Security,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let mut places = Places::new(CONNECTIONS_MAX);
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            // Before newcomers: what has ended must not pile up behind a stream of them.
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let place = places.place();
                    let connection = connection(socket, security.clone(), router.clone(), place.clone(), stopping.clone());
                    let handle = connections.spawn(connection);
                    if let Some(idle) = places.enter(place, handle, AbortHandle::is_finished) {
                        tracing::debug!("all places are taken: an idle connection is closed");
                        idle.abort();
                    }
                    // What it brought is looked at before the next one comes in.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH_MAX, all).await.is_err() {
        tracing::warn!("connections were cut that did not end");
    }
}

async fn connection(
    socket: TcpStream,
    security: Security,
    router: Router,
    place: Place,
    stop: watch::Receiver<bool>,
) {
    // Without it small answers wait for the other side's acknowledgement. A socket that is gone says so when read.
    socket.set_nodelay(true).ok();
    let done = match security {
        Security::None => http(TokioIo::new(socket), router, place, stop).await,
        Security::Tls(served) => {
            let Some(config) = served.current() else {
                return tracing::debug!("a connection was closed: there is no certificate yet");
            };
            let acceptor = TlsAcceptor::from(config);
            match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => http(TokioIo::new(stream), router, place, stop).await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a connection failed");
    }
}

async fn http<S>(
    stream: S,
    router: Router,
    place: Place,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()>
where
    S: Read + Write + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (asking, router) = (place.asks(), router.clone());
        async move {
            let answer = router.oneshot(request.map(Body::new));
            let answer = tokio::time::timeout(REQUEST_MAX, answer).await;
            drop(asking);
            match answer {
                Ok(answer) => answer.map_err(io::Error::other),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(stream, service);
    tokio::pin!(serving);
    tokio::select! {
        biased;
        served = serving.as_mut() => return served.map_err(io::Error::other),
        _ = stop.wait_for(|stop| *stop) => {}
        () = tokio::time::sleep(CONNECTION_MAX) => {}
    }
    serving.as_mut().graceful_shutdown();
    match tokio::time::timeout(FINISH_MAX, serving).await {
        Ok(served) => served.map_err(io::Error::other),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Longest that what has begun may take after the end was asked for.
pub const FINISH_MAX: Duration = Duration::from_secs(10);

/// Most connections at a time; for the next one, that goes which asked nothing for longest. An API server opens one for each
/// review that is under way.
const CONNECTIONS_MAX: usize = 256;

/// Longest TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Longest that a request may take; the API server gives up before that.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// Longest that a connection may be idle, or a head take. An API server closes its own after 90 s, and should be first:
/// a request that crosses our end fails a pod.
const IDLE_MAX: Duration = Duration::from_mins(2);

/// Longest that a connection may live: it bounds what whoever reads no answers can hold. API servers open another.
const CONNECTION_MAX: Duration = Duration::from_mins(10);

/// Largest request head in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Pause after an error of the listener, which is most likely a want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
