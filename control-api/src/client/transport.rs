//! One HTTP/1.1 exchange over a Unix socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ClientError, json_body};
use crate::view::Problem;

/// A request that is being put together.
#[derive(Debug)]
pub(super) struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Sets a header; a value that is none is left out, and the server then says what is missing.
    pub(super) fn header(mut self, name: HeaderName, value: String) -> Self {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn json<T: Serialize>(mut self, content_type: &'static str, body: &T) -> Self {
        let content_type = HeaderValue::from_static(content_type);
        self.headers.insert(header::CONTENT_TYPE, content_type);
        self.body = json_body(body);
        self
    }
}

/// A whole response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Response {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ClientError::NotUnderstood(error.to_string()))
    }

    /// The revision in the response's entity tag.
    pub(super) fn revision(&self) -> Result<u64, ClientError> {
        self.headers
            .get(header::ETAG)
            .and_then(|tag| tag.to_str().ok()?.trim_matches('"').parse().ok())
            .ok_or_else(|| ClientError::NotUnderstood("it has no ETag".to_owned()))
    }

    /// What a response says that is no success.
    pub(super) fn refusal(&self) -> ClientError {
        match self.json::<Problem>() {
            Ok(problem) if problem.status != 0 => ClientError::Refused(Box::new(problem)),
            _ => ClientError::NotUnderstood(format!("status {}", self.status)),
        }
    }
}

/// Sends a request and reads the whole response.
pub(super) async fn send(socket: &Path, request: Request) -> Result<Response, ClientError> {
    let exchange = async {
        let (head, body) = open(socket, request).await?.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| ClientError::Broken(error.to_string()))?;
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    };
    timeout(EXCHANGE_TIME_MAX, exchange)
        .await
        .map_err(|_| ClientError::TimedOut)?
}

/// Sends a request and returns as soon as the response's head is there.
pub(super) async fn open(
    socket: &Path,
    request: Request,
) -> Result<http::Response<Incoming>, ClientError> {
    let stream = connect(socket)
        .await
        .map_err(|source| ClientError::Connect {
            socket: socket.to_owned(),
            source,
        })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends with the response's body: it has the only other handle to the connection.
    tokio::spawn(connection);
    let mut built = http::Request::new(Full::new(Bytes::from(request.body)));
    *built.method_mut() = request.method;
    *built.uri_mut() = request
        .path
        .parse()
        .map_err(|error| ClientError::Broken(format!("{}: {error}", request.path)))?;
    *built.headers_mut() = request.headers;
    built
        .headers_mut()
        .insert(header::HOST, HeaderValue::from_static("localhost"));
    let answered = timeout(EXCHANGE_TIME_MAX, sender.send_request(built)).await;
    answered.map_err(|_| ClientError::TimedOut)?.map_err(broken)
}

async fn connect(socket: &Path) -> io::Result<UnixStream> {
    timeout(CONNECT_TIME_MAX, UnixStream::connect(socket))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err calls"
)]
fn broken(error: hyper::Error) -> ClientError {
    ClientError::Broken(error.to_string())
}

/// Longest wait for a connection; a full backlog makes it wait.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest wait for a whole response; the server gives a request ten seconds.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(15);
/// Largest response, in bytes.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
