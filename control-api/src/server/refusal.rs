//! Every way in which the control API says no, and the problem details (RFC 9457) that it answers with.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::document::{DocumentError, Finding};
use crate::view::Problem;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The caller's user id is not on the list.
    ForeignUser(u32),
    /// The kernel does not say who calls.
    UnknownUser,
    /// The `Host` header is not loopback, or a browser calls for another site.
    ForeignHost,
    /// The bearer token is missing or wrong.
    NoToken,
    /// There is no such resource.
    NoResource(String),
    /// The resource does not know the method.
    NoMethod,
    /// A revision that was never there, or is forgotten.
    NoRevision(u64),
    /// A query parameter, a header or the body has the wrong form.
    Malformed(String),
    /// The body is not of a type that is understood here.
    MediaType(&'static str),
    /// The request has no `If-Match`.
    Unconditional(u64),
    /// `If-Match` names another revision than the one in force.
    Stale(u64),
    /// The policy is not one.
    Document(DocumentError),
    /// The body is larger than a policy may be.
    TooLarge,
    /// As many callers watch as may.
    TooManyWatchers,
    /// The answer took too long.
    Late,
    /// A handler failed; the log says how.
    Failed,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::ForeignUser(_) | Self::UnknownUser | Self::ForeignHost => StatusCode::FORBIDDEN,
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::NoResource(_) | Self::NoRevision(_) => StatusCode::NOT_FOUND,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed(_) | Self::Document(DocumentError::Syntax { .. }) => {
                StatusCode::BAD_REQUEST
            }
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unconditional(_) => StatusCode::PRECONDITION_REQUIRED,
            Self::Stale(_) => StatusCode::PRECONDITION_FAILED,
            Self::Document(DocumentError::Invalid(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Document(DocumentError::TooLarge(_)) | Self::TooLarge => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::TooManyWatchers | Self::Late => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The problem's type, without its prefix, and its title. They do not change.
    fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::ForeignUser(_) | Self::UnknownUser | Self::ForeignHost => {
                ("forbidden", "This caller may not use the control API")
            }
            Self::NoToken => ("unauthorized", "The bearer token is missing or wrong"),
            Self::NoResource(_) => ("no-resource", "There is no such resource"),
            Self::NoMethod => ("no-method", "The resource does not know this method"),
            Self::NoRevision(_) => ("no-revision", "This revision is not remembered"),
            Self::Malformed(_) => ("malformed", "The request is malformed"),
            Self::MediaType(_) => ("media-type", "The body has the wrong media type"),
            Self::Unconditional(_) => ("unconditional", "The request needs If-Match"),
            Self::Stale(_) => ("stale", "The policy has changed meanwhile"),
            Self::Document(DocumentError::Syntax { .. }) => ("syntax", "The body is not JSON"),
            Self::Document(DocumentError::Invalid(_)) => {
                ("invalid-policy", "The policy has mistakes")
            }
            Self::Document(DocumentError::TooLarge(_)) | Self::TooLarge => {
                ("too-large", "The policy is too large")
            }
            Self::TooManyWatchers => ("too-many-watchers", "Too many callers watch already"),
            Self::Late => ("late", "The answer took too long"),
            Self::Failed => ("failed", "The request failed inside weir"),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::ForeignUser(uid) => {
                format!("uid {uid} is not allowed; call as root, or as the user that weir runs as")
            }
            Self::UnknownUser => "the socket does not tell who calls".to_owned(),
            Self::ForeignHost => {
                "the Host header has to name loopback, and there may be no Origin".to_owned()
            }
            Self::NoToken => {
                "send Authorization: Bearer and the token of the token file".to_owned()
            }
            Self::NoResource(path) => format!("{path}: see /v1/openapi.json for what there is"),
            Self::NoMethod => "see the Allow header".to_owned(),
            Self::NoRevision(revision) => {
                format!("revision {revision}: see /v1/revisions for those that are")
            }
            Self::Malformed(detail) => detail.clone(),
            Self::MediaType(expected) => format!("send {expected}"),
            Self::Unconditional(current) => format!(
                "send If-Match: \"{current}\" to replace the revision in force, or If-Match: * to replace any"
            ),
            Self::Stale(current) => format!(
                "revision {current} is in force; read it, decide again, and send If-Match: \"{current}\""
            ),
            Self::Document(error) => match error.findings().len() {
                0 => error.to_string(),
                1 => "1 mistake; the policy before stays in force".to_owned(),
                count => format!("{count} mistakes; the policy before stays in force"),
            },
            Self::TooLarge => format!("more than {} bytes", crate::document::BYTES_MAX),
            Self::TooManyWatchers => "close another one, or ask again later".to_owned(),
            Self::Late => "ask again".to_owned(),
            Self::Failed => "see weir's log".to_owned(),
        }
    }

    fn errors(&self) -> Vec<Finding> {
        if let Self::Document(error) = self {
            return error.findings().to_vec();
        }
        Vec::new()
    }

    pub(super) fn problem(&self) -> Problem {
        let (kind, title) = self.kind();
        Problem {
            kind: format!("urn:weir:problem:{kind}"),
            title: title.to_owned(),
            status: self.status().as_u16(),
            detail: self.detail(),
            errors: self.errors(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if matches!(self, Self::NoToken) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self, Self::TooManyWatchers | Self::Late) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
