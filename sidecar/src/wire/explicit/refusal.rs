//! What the explicit proxy cannot do for a request, and how it says so.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};

use super::names::{NameError, ReachError};
use crate::error::UpstreamError;
use crate::http::body::Body;
use crate::resolver::ResolveError;
use crate::stack::ResponseBody;

/// Why the explicit proxy answers a request itself.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The target does not say for which server it is.
    #[error(
        "this is weir's explicit HTTP proxy: it needs an absolute target (GET http://host/path) or CONNECT host:port; is it \
         being called as if it were the server?"
    )]
    NoHost,
    /// A CONNECT without a port, or a port that is none.
    #[error("the target's port is missing or no port: CONNECT host:port, or http://host:port/path")]
    NoPort,
    /// A scheme that is not plain HTTP.
    #[error("the proxy speaks plain HTTP only, not {0}; use CONNECT for a tunnel")]
    Scheme(Box<str>),
    /// The server has no address, or one of ours.
    #[error(transparent)]
    Name(#[from] NameError),
    /// None of the server's addresses answers.
    #[error(transparent)]
    Connect(#[from] UpstreamError),
}

impl From<ReachError> for Refusal {
    fn from(error: ReachError) -> Self {
        match error {
            ReachError::Name(error) => Self::Name(error),
            ReachError::Connect(error) => Self::Connect(error),
        }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoHost | Self::NoPort | Self::Scheme(_) => StatusCode::BAD_REQUEST,
            Self::Name(NameError::OwnPort(_)) => StatusCode::FORBIDDEN,
            Self::Name(NameError::Resolve(ResolveError::Timeout { .. }))
            | Self::Connect(UpstreamError::ConnectTimeout { .. }) => StatusCode::GATEWAY_TIMEOUT,
            Self::Name(NameError::Resolve(ResolveError::Failed { .. })) | Self::Connect(_) => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// A word from a closed set, in the problem's type.
    fn kind(&self) -> &'static str {
        match self {
            Self::NoHost => "proxy_target_without_host",
            Self::NoPort => "proxy_target_without_port",
            Self::Scheme(_) => "proxy_target_scheme",
            Self::Name(NameError::OwnPort(_)) => "own_port",
            Self::Name(NameError::Resolve(ResolveError::Failed { .. })) => "name_failure",
            Self::Name(NameError::Resolve(ResolveError::Timeout { .. })) => "name_timeout",
            Self::Connect(error) => error.kind(),
        }
    }

    /// The response that says so (RFC 9457).
    pub(super) fn response(&self, method: &Method) -> Response<ResponseBody> {
        let status = self.status();
        let body = serde_json::json!({
            "type": format!("urn:weir:{}", self.kind()),
            "title": "weir's HTTP proxy cannot do this",
            "status": status.as_u16(),
            "detail": self.to_string(),
        })
        .to_string();
        let length = HeaderValue::from(body.len());
        // RFC 9110 §9.3.2: a HEAD's response has no body.
        let body = if *method == Method::HEAD {
            Body::Empty
        } else {
            Body::full(body)
        };
        let mut response = Response::new(ResponseBody::new(body));
        *response.status_mut() = status;
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem);
        response.headers_mut().insert(CONTENT_LENGTH, length);
        response
    }
}
