//! The demo's server: a service of limited capacity, as they are.
//!
//! It works on a fixed number of calls at a time, the others wait in line, and it does not notice when a caller has
//! given up: the work is done all the same. That is what turns overload into an outage.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

/// What the server is like.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerOptions {
    /// Calls worked on at a time.
    #[arg(long, default_value_t = 8)]
    pub slots: usize,
    /// Milliseconds of work a call.
    #[arg(long, default_value_t = 10)]
    pub work_ms: u64,
    /// Every n-th of so many calls fails with 503; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub fail_one_of: u64,
}

#[derive(Debug)]
struct Service {
    slots: Semaphore,
    work: Duration,
    fail_one_of: u64,
    received: AtomicU64,
}

/// Serves until the process is ended; says its address on standard output first.
///
/// # Errors
/// When it cannot listen on loopback.
pub async fn serve(options: ServerOptions) -> std::io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    super::say(&listener.local_addr()?.to_string())?;
    let service = Arc::new(Service {
        slots: Semaphore::new(options.slots),
        work: Duration::from_millis(options.work_ms),
        fail_one_of: options.fail_one_of,
        received: AtomicU64::new(0),
    });
    loop {
        let (socket, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "accepting");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let _without_delay_if_the_system_can = socket.set_nodelay(true);
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let answer =
                hyper::service::service_fn(move |request| answer(Arc::clone(&service), request));
            let connection = hyper::server::conn::http1::Builder::new();
            if let Err(error) = connection
                .serve_connection(TokioIo::new(socket), answer)
                .await
            {
                tracing::debug!(%error, "a client went away");
            }
        });
    }
}

async fn answer(
    service: Arc<Service>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == RECEIVED_PATH {
        return Ok(Response::new(Full::from(
            service.received.load(Ordering::Relaxed).to_string(),
        )));
    }
    let number = service.received.fetch_add(1, Ordering::Relaxed);
    let (done, result) = oneshot::channel();
    // A task of its own: the work goes on when the caller is gone.
    tokio::spawn(async move {
        let fails = service.fail_one_of > 0 && number.is_multiple_of(service.fail_one_of);
        if let Ok(_slot) = service.slots.acquire().await {
            // The timer rounds up to whole milliseconds: half of one less is right on average.
            tokio::time::sleep(service.work.saturating_sub(Duration::from_micros(500))).await;
        }
        let _the_caller_may_be_gone = done.send(fails);
    });
    let fails = result.await.unwrap_or(true);
    let mut response = Response::new(Full::from(if fails { "failed\n" } else { "done\n" }));
    if fails {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// Where the server says how many calls it has received.
pub const RECEIVED_PATH: &str = "/received";
