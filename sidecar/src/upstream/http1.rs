//! HTTP/1 connections to upstreams.

use std::net::SocketAddr;

use super::connect::Settings;
use crate::error::UpstreamError;
use crate::http::body::Body;

/// The HTTP/1 connections of one worker.
#[derive(Debug)]
pub struct Pool {
    #[allow(dead_code, reason = "skeleton")]
    settings: Settings,
}

impl Pool {
    /// No connections yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// One exchange with `addr`.
    ///
    /// # Errors
    /// When no response head came.
    pub async fn send(
        &self,
        addr: SocketAddr,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, UpstreamError> {
        let _ = request;
        Err(UpstreamError::NotSent { addr })
    }
}
