//! One call on an HTTP/2 stream.
//!
//! The request's body is sent by the call's own future while it waits for the response head. Only an upload that is not
//! done by then gets a task of its own: most calls need none.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use h2::Reason;
use h2::client::ResponseFuture;
use http::StatusCode;
use http_body::Body as _;

use super::endpoint::{Endpoint, Head, Opened, Sent};
use super::failure;
use crate::error::UpstreamError;
use crate::http::body::{Body, BodyError, Http2Body};
use crate::http::header_limit::{HeaderLimit, TooLarge};
use crate::http::http2_pump::{Pump, PumpError};
use crate::http::interim;
use crate::http::loan::{Hold, Loan};

/// One call: its request out, its response head in.
///
/// # Errors
/// When no response head came; the variant says whether the request may have been processed.
pub(super) async fn exchange(
    endpoint: &Arc<Endpoint>,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, UpstreamError> {
    let (mut head, body) = request.into_parts();
    let is_end = body.is_end_stream();
    if head.uri.authority().is_none() {
        // The crate insists on an authority unless the request came by HTTP/1. RFC 9113 §8.3.1: what a message did not
        // have is not generated; its Host field, where it has one, goes on as it is.
        head.version = http::Version::HTTP_11;
    }
    let head = Head::new(http::Request::from_parts(head, ()), is_end);
    let Opened {
        response,
        body: stream,
        loan,
        sent,
    } = endpoint.open_stream(head).await?;
    let mut exchange = Exchange {
        upload: (!is_end).then(|| Pump::new(body, stream)),
        response,
        header_limit: endpoint.header_limit(),
        was_polled: false,
        interim: 0,
    };
    let mut waiting = Waiting {
        endpoint,
        loan: &loan,
        sent,
        is_over: false,
    };
    let response = poll_fn(|cx| exchange.poll_head(cx)).await;
    waiting.is_over = true;
    let response = response.map_err(|failure| {
        if matches!(failure, Failure::Interim(_)) {
            endpoint.avoid(&loan);
        }
        failure.of(endpoint.addr())
    })?;
    drop(waiting);
    let upload = exchange.upload;
    Ok(response.map(|stream| {
        if stream.is_end_stream() && upload.is_none() {
            return Body::Empty;
        }
        let hold = match upload {
            None => Hold::Place(loan),
            Some(upload) => endpoint.uploads().go_on(upload, loan),
        };
        Body::Http2(Http2Body::new(stream, exchange.header_limit).holding(hold))
    }))
}

/// Tells the endpoint when the call is given up before its response head came.
struct Waiting<'a> {
    endpoint: &'a Endpoint,
    loan: &'a Loan,
    sent: Sent,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.endpoint.given_up(self.loan, self.sent);
        }
    }
}

/// A call between its first byte out and its response head.
struct Exchange {
    upload: Option<Pump<Body>>,
    response: ResponseFuture,
    header_limit: HeaderLimit,
    was_polled: bool,
    interim: usize,
}

/// Why there is no response head.
enum Failure {
    Stream(h2::Error),
    RequestBody(BodyError),
    /// What the peer may not say before it answers.
    Interim(&'static str),
    Head(TooLarge),
}

impl Failure {
    fn of(self, addr: SocketAddr) -> UpstreamError {
        match self {
            Self::Stream(error) => failure::of_stream(addr, &error),
            Self::RequestBody(error) => UpstreamError::RequestBody(error),
            Self::Interim(detail) => failure::malformed(addr, detail),
            Self::Head(error) => failure::malformed(addr, error.to_string()),
        }
    }
}

impl Exchange {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<h2::RecvStream>, Failure>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(cx)
        {
            if let Err(PumpError::Body(error)) = sent {
                upload.reset(Reason::CANCEL);
                return Poll::Ready(Err(Failure::RequestBody(error)));
            }
            // Sent whole; or the upstream wants no more of it, and its response or reset says why.
            self.upload = None;
        }
        // Nothing can have come before the request was written.
        if std::mem::replace(&mut self.was_polled, true) {
            while let Poll::Ready(Some(Ok(response))) = self.response.poll_informational(cx) {
                self.interim += 1;
                // RFC 9113 §8.6: HTTP/2 does not switch protocols.
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Err(Failure::Interim("it switched protocols")));
                }
                if self.interim > interim::SEEN_MAX {
                    return Poll::Ready(Err(Failure::Interim("interim responses without end")));
                }
                self.header_limit
                    .check_response(&response)
                    .map_err(Failure::Head)?;
                interim::pass(response);
            }
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx)).map_err(Failure::Stream)?;
        self.header_limit
            .check_response(&response)
            .map_err(Failure::Head)?;
        Poll::Ready(Ok(response))
    }
}
