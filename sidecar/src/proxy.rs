//! The proxy as a connection sees it: answers one request after the other.

use std::net::SocketAddr;

use crate::http::body::Body;
use crate::stack::ResponseBody;
use crate::upstream::Upstream;

/// How a request's connection reached us.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Where the application dialled, or what its CONNECT or absolute-form target resolved to.
    pub original_destination: SocketAddr,
    /// The application's end of the connection.
    pub peer: SocketAddr,
}

/// One worker's proxy. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Proxy {
    upstream: Upstream,
}

impl Proxy {
    /// A proxy that sends to `upstream`.
    #[must_use]
    pub fn new(upstream: Upstream) -> Self {
        Self { upstream }
    }

    /// Answers one request: with the destination's response, or with one of ours that says why there is none.
    pub async fn answer(
        &self,
        request: http::Request<Body>,
        arrival: &Arrival,
    ) -> http::Response<ResponseBody> {
        match self
            .upstream
            .send(arrival.original_destination, request)
            .await
        {
            Ok(response) => response.map(ResponseBody::new),
            Err(error) => {
                let mut response =
                    http::Response::new(ResponseBody::new(Body::full(error.to_string())));
                *response.status_mut() = http::StatusCode::BAD_GATEWAY;
                response
            }
        }
    }
}
