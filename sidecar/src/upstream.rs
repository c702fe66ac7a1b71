//! The way to the server: connections, their pools, and one exchange on them.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::UpstreamError;
use crate::http::body::Body;

pub mod connect;
pub mod http1;
pub mod http2;

impl tower::Service<Exchange> for Upstream {
    type Response = http::Response<Body>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (addr, request): Exchange) -> Self::Future {
        if request.version() == http::Version::HTTP_2 {
            let http2 = Arc::clone(&self.http2);
            return Box::pin(async move { http2.send(addr, request).await });
        }
        self.http1.send(addr, request)
    }
}

/// One exchange: the address, and what is sent there.
pub type Exchange = (SocketAddr, http::Request<Body>);

/// The upstream connections of one worker.
#[derive(Debug, Clone)]
pub struct Upstream {
    http1: Arc<http1::Pool>,
    http2: Arc<http2::Pool>,
}

impl Upstream {
    /// No connections yet.
    #[must_use]
    pub fn new(settings: &connect::Settings) -> Self {
        Self {
            http1: Arc::new(http1::Pool::new(settings.clone())),
            http2: Arc::new(http2::Pool::new(settings.clone())),
        }
    }

    /// One exchange with `addr`: h1 in, h1 out; h2 in, h2 out.
    ///
    /// Dropping the future cancels the exchange: the stream is reset, or the connection closed.
    ///
    /// # Errors
    /// When no response head came; the variant says whether the request may have been processed.
    pub async fn send(
        &self,
        addr: SocketAddr,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, UpstreamError> {
        if request.version() == http::Version::HTTP_2 {
            self.http2.send(addr, request).await
        } else {
            self.http1.send(addr, request).await
        }
    }
}
