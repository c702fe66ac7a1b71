//! HTTP/1 connections to upstreams: one exchange at a time on each, kept for the next call.
//!
//! [`Pool::send`] takes an unused connection or opens one, and hands the request to hyper. The connection's
//! [driver](drivers) puts it back when request and response are both through; until then the response body streams.

use std::error::Error as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use nix::errno::Errno;
use pin_project_lite::pin_project;

use super::connect::{self, Settings};
use crate::error::UpstreamError;
use crate::http::body::{Body, BodyError, LastBody};
use crate::http::fields::Fields;
use crate::http::trailers::Section;
use crate::http::{content_length, hop_by_hop};
use connection::{Connection, Exchange, Failure};
use drivers::Drivers;
use idle::Idle;
use progress::Permission;
use request_body::{RequestBody, Upload};

mod connection;
mod drivers;
mod idle;
mod io;
mod progress;
mod request_body;

pub use io::{PendingUpgrade, Upgraded};

/// The HTTP/1 connections of one worker.
#[derive(Debug)]
pub struct Pool(Arc<Shared>);

/// One exchange, begun. Dropping it closes the connection that it uses.
///
/// Boxed, since what it consists of has no name; this is the one allocation of a call without a request body.
pub type Sending = Pin<Box<dyn Future<Output = Result<Response<Body>, UpstreamError>> + Send>>;

impl Pool {
    /// No connections yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            idle: Arc::new(Idle::new(&settings)),
            drivers: Drivers::new(&settings),
            settings,
        }))
    }

    /// Closes the connections that wait for a call.
    pub fn close_unused(&self) {
        self.0.idle.close_all();
    }

    /// One exchange with `addr`.
    ///
    /// The request's head is sent as it is: hop-by-hop fields have to be gone, except an `Upgrade` that is meant. A
    /// granted upgrade leaves its connection in the response's extensions; [`PendingUpgrade::of`] takes it.
    ///
    /// # Errors
    /// When no response head came. [`UpstreamError::NotSent`] means that not one byte of the request left.
    pub fn send(&self, addr: SocketAddr, request: Request<Body>) -> Sending {
        let (request, expected) = prepare(request);
        let Some(connection) = self.0.idle.take(addr) else {
            return Box::pin(Arc::clone(&self.0).send(addr, request, expected));
        };
        match connection.begin(request, &expected) {
            Ok(exchange) => Box::pin(Reusing {
                exchange,
                expected: Some(expected),
                pool: Arc::clone(&self.0),
                again: None,
            }),
            Err(unsent) => Box::pin(Arc::clone(&self.0).send(addr, unsent, expected)),
        }
    }
}

/// What a pool consists of.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    idle: Arc<Idle>,
    drivers: Drivers,
}

impl Shared {
    async fn send(
        self: Arc<Self>,
        addr: SocketAddr,
        mut request: Request<RequestBody>,
        expected: Expected,
    ) -> Result<Response<Body>, UpstreamError> {
        loop {
            let unused = self.idle.take(addr);
            let is_reused = unused.is_some();
            let connection = match unused {
                Some(connection) => connection,
                None => self.open(addr).await?,
            };
            let unsent = match Arc::clone(&connection).begin(request, &expected) {
                Ok(exchange) => match exchange.await {
                    Ok(response) => return accept(response, &expected, &connection),
                    Err(Failure::Broken(error)) => return Err(failed(error, &connection)),
                    Err(Failure::Unsent(unsent)) => *unsent,
                },
                Err(unsent) => unsent,
            };
            if !is_reused {
                return Err(UpstreamError::NotSent { addr });
            }
            // It closed while it was unused, and gave the request back whole.
            request = unsent;
        }
    }

    async fn open(&self, addr: SocketAddr) -> Result<Arc<Connection>, UpstreamError> {
        let stream = match connect::connect(addr, &self.settings).await {
            Err(error) if is_out_of_descriptors(&error) => {
                // Used connections come before unused ones, whose drivers now close them.
                self.idle.close_all();
                tokio::time::sleep(CLOSING).await;
                connect::connect(addr, &self.settings).await?
            }
            connected => connected?,
        };
        let started = self.drivers.start(stream, addr, &self.idle).await;
        started.map_err(|_hyper_refused| UpstreamError::NotSent { addr })
    }
}

pin_project! {
    /// An exchange on a connection that was unused: what nearly every call is. Small, since it is moved.
    struct Reusing<F> {
        #[pin]
        exchange: Exchange<F>,
        expected: Option<Expected>,
        pool: Arc<Shared>,
        // The connection was closed; this is the next try.
        again: Option<Sending>,
    }
}

impl<F> Future for Reusing<F>
where
    Exchange<F>: Future<Output = Result<Response<Incoming>, Failure>>,
{
    type Output = Result<Response<Body>, UpstreamError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(again) = this.again {
            return again.as_mut().poll(cx);
        }
        let answer = ready!(this.exchange.as_mut().poll(cx));
        let connection = this.exchange.connection();
        let expected = this.expected.take().unwrap_or_default();
        match answer {
            Ok(response) => Poll::Ready(accept(response, &expected, connection)),
            Err(Failure::Broken(error)) => Poll::Ready(Err(failed(error, connection))),
            Err(Failure::Unsent(unsent)) => {
                let pool = Arc::clone(this.pool);
                let again =
                    this.again
                        .insert(Box::pin(pool.send(connection.addr(), *unsent, expected)));
                again.as_mut().poll(cx)
            }
        }
    }
}

fn is_out_of_descriptors(error: &UpstreamError) -> bool {
    let UpstreamError::Connect { source, .. } = error else {
        return false;
    };
    let errno = source.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// What a response is checked against.
#[derive(Debug, Default)]
struct Expected {
    upgrade: bool,
    /// Set once the request body was sent whole; `None` where there is none.
    body_sent: Option<Arc<AtomicBool>>,
    /// What the server gives by `100 Continue`.
    permission: Option<Permission>,
    /// Where the request body's trailers go; `None` where it can have none.
    trailers: Option<Arc<Section>>,
}

/// Makes the head one that hyper frames as the application did, and the body one that hyper can send.
fn prepare(request: Request<Body>) -> (Request<RequestBody>, Expected) {
    let (mut head, body) = request.into_parts();
    let fields = Fields::of(&head.headers);
    // RFC 9110 §6.2: a proxy sends its own version. Without a Host, which HTTP/1.1 requires and nobody may guess, the
    // request stays an HTTP/1.0 one.
    if head.version != Version::HTTP_10 || fields.has_host() {
        head.version = Version::HTTP_11;
    }
    if fields.has_length() {
        content_length::make_one(&mut head.headers);
    }
    let mut expected = Expected {
        upgrade: fields.has_upgrade() || head.method == Method::CONNECT,
        body_sent: None,
        permission: None,
        trailers: None,
    };
    if body.is_end_stream() {
        return (Request::from_parts(head, RequestBody::empty()), expected);
    }
    if body.size_hint().exact().is_none() && !fields.has_length() {
        // Without the field, hyper would send a GET's chunked body as none.
        head.headers
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        expected.trailers = Some(Arc::default());
    }
    let upload = Upload::default();
    expected.body_sent = Some(Arc::clone(&upload.sent));
    let upload = Upload {
        trailers: expected.trailers.clone(),
        ..upload
    };
    let waits = fields.has_expectation()
        && head
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let body = if waits {
        let (body, permission) = RequestBody::awaiting_permission(body, upload);
        expected.permission = Some(permission);
        body
    } else {
        RequestBody::new(body, upload)
    };
    (Request::from_parts(head, body), expected)
}

/// Checks a response head, and makes it one of ours.
fn accept(
    mut response: Response<Incoming>,
    expected: &Expected,
    connection: &Arc<Connection>,
) -> Result<Response<Body>, UpstreamError> {
    let upgrade = match response.status() {
        StatusCode::SWITCHING_PROTOCOLS if !expected.upgrade => {
            return Err(malformed(connection, "it switched protocols unasked"));
        }
        // A refusal may name the protocol that it asks for (RFC 9110 §15.5.22).
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED => hop_by_hop::Upgrade::Keep,
        _ => hop_by_hop::Upgrade::Remove,
    };
    let fields = Fields::of(response.headers());
    if fields.has_coding()
        && let Some(detail) = ambiguous_length(response.headers(), fields)
    {
        return Err(malformed(connection, detail));
    }
    if fields.has_length() {
        content_length::make_one(response.headers_mut());
    }
    if fields.has_hop_by_hop() {
        hop_by_hop::remove(response.headers_mut(), upgrade);
    }
    let unfinished = expected
        .body_sent
        .as_ref()
        .filter(|sent| !sent.load(Ordering::Relaxed));
    Ok(response.map(|incoming| match unfinished {
        Some(sent) => Body::Http1Last(LastBody::new(
            incoming,
            connection.driver().cloned(),
            Arc::clone(sent),
        )),
        None if incoming.is_end_stream() => Body::Empty,
        None => Body::Http1(incoming),
    }))
}

/// RFC 9112 §6.1 and §6.3: framing that two readers may understand differently. hyper has refused differing lengths and
/// codings in HTTP/1.0 already.
fn ambiguous_length(headers: &HeaderMap, fields: Fields) -> Option<&'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next()?;
    if fields.has_length() {
        Some("it gave both a content-length and a transfer-encoding")
    } else if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        Some("it used a transfer-encoding other than chunked, which nobody offered")
    } else {
        None
    }
}

fn malformed(connection: &Connection, detail: &str) -> UpstreamError {
    if let Some(driver) = connection.driver() {
        driver.abort();
    }
    UpstreamError::Malformed {
        addr: connection.addr(),
        detail: detail.to_owned(),
    }
}

/// What an exchange's failure means.
fn failed(error: hyper::Error, connection: &Connection) -> UpstreamError {
    let addr = connection.addr();
    let is_body = error.is_body_write_aborted()
        || error
            .source()
            .is_some_and(<dyn std::error::Error>::is::<BodyError>);
    if is_body {
        UpstreamError::RequestBody(BodyError::Http1(error))
    } else if error.is_parse() || connection.is_flooded() {
        UpstreamError::Malformed {
            addr,
            detail: chain(&error),
        }
    } else if connection.has_sent_nothing() {
        UpstreamError::NotSent { addr }
    } else {
        UpstreamError::Reset {
            addr,
            reason: None,
            detail: chain(&error),
        }
    }
}

/// An error with its causes, which hyper's own text leaves out.
fn chain(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// How long unused connections may take to close when descriptors run short: a turn of the worker's.
const CLOSING: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
