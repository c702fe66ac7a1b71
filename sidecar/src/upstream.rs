//! The way to the server: connections, their pools, and one exchange on them.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::UpstreamError;
use crate::http::body::Body;
use crate::memory::Memory;

pub mod connect;
pub mod http1;
pub mod http2;

/// One exchange: h1 in, h1 out; h2 in, h2 out. An error's variant says whether the request may have been processed.
///
/// Dropping the future cancels the exchange: the stream is reset, or the connection closed.
impl tower::Service<Exchange> for Upstream {
    type Response = http::Response<Body>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (addr, request): Exchange) -> Self::Future {
        if request.version() == http::Version::HTTP_2 {
            let pools = Arc::clone(&self.0);
            return Box::pin(async move { pools.http2.send(addr, request).await });
        }
        self.0.http1.send(addr, request)
    }
}

/// One exchange: the address, and what is sent there.
pub type Exchange = (SocketAddr, http::Request<Body>);

/// The upstream connections of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upstream(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    http1: http1::Pool,
    http2: http2::Pool,
}

impl Upstream {
    /// No connections yet.
    #[must_use]
    pub fn new(settings: &connect::Settings) -> Self {
        Self(Arc::new(Pools {
            http1: http1::Pool::new(settings.clone()),
            http2: http2::Pool::new(settings.clone()),
        }))
    }

    /// Closes the connections that wait for a call whenever memory becomes short. Does not end.
    pub async fn close_unused_when_short(self, memory: Arc<Memory>) {
        loop {
            memory.becomes(true).await;
            self.0.http1.close_unused();
            memory.becomes(false).await;
        }
    }
}
