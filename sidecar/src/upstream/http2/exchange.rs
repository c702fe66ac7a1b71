//! One call on an HTTP/2 stream.
//!
//! The request's body is sent by the call's own future while it waits for the response head. Only an upload that is not
//! done by then gets a task of its own: most calls need none.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::Reason;
use h2::client::ResponseFuture;
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::endpoint::{Endpoint, Head, Opened};
use super::failure;
use crate::error::UpstreamError;
use crate::http::body::{Body, Http2Body};
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
    } = endpoint.open_stream(head).await?;
    let mut exchange = Exchange {
        endpoint,
        upload: (!is_end).then(|| Pump::new(body, stream)),
        response,
        was_polled: false,
    };
    let response = poll_fn(|cx| exchange.poll_head(cx)).await?;
    let Exchange { upload, .. } = exchange;
    Ok(response.map(|stream| {
        if stream.is_end_stream() && upload.is_none() {
            return Body::Empty;
        }
        let hold = match upload {
            None => Hold::Place(loan),
            Some(upload) => go_on(upload, loan),
        };
        Body::Http2(Http2Body::holding(stream, None, hold))
    }))
}

/// A call between its first byte out and its response head.
struct Exchange<'a> {
    // Dropped in this order: both halves of the stream, then (by the caller) its place.
    upload: Option<Pump<Body>>,
    response: ResponseFuture,
    endpoint: &'a Endpoint,
    was_polled: bool,
}

impl Exchange<'_> {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<h2::RecvStream>, UpstreamError>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(cx)
        {
            if let Err(PumpError::Body(error)) = sent {
                upload.reset(Reason::CANCEL);
                return Poll::Ready(Err(UpstreamError::RequestBody(error)));
            }
            // Sent whole; or the upstream wants no more of it, and its response or reset says why.
            self.upload = None;
        }
        // Nothing can have come before the request was written.
        if std::mem::replace(&mut self.was_polled, true) {
            while let Poll::Ready(Some(Ok(response))) = self.response.poll_informational(cx) {
                interim::pass(response);
            }
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx));
        Poll::Ready(response.map_err(|error| failure::of_stream(self.endpoint.addr(), &error)))
    }
}

/// Lets an upload go on while its response comes in. Both hold the stream's place.
fn go_on(upload: Pump<Body>, loan: Loan) -> Hold {
    let loan = Arc::new(loan);
    let (ended, response_ended) = oneshot::channel();
    tokio::spawn(finish(upload, Arc::clone(&loan), response_ended));
    Hold::Shared {
        loan,
        ended: Some(ended),
    }
}

/// Sends the rest of an upload. A response that was given up ends it; one that came to its end leaves it
/// [`UPLOAD_LINGER`] for what a server may still want to read.
async fn finish(
    mut upload: Pump<Body>,
    loan: Arc<Loan>,
    mut response_ended: oneshot::Receiver<()>,
) {
    let sent = tokio::select! {
        biased;
        sent = poll_fn(|cx| upload.poll(cx)) => Some(sent),
        ended = &mut response_ended => match ended {
            Ok(()) => timeout(UPLOAD_LINGER, poll_fn(|cx| upload.poll(cx))).await.ok(),
            Err(_given_up) => None,
        },
    };
    match sent {
        Some(Ok(()) | Err(PumpError::Reset(_) | PumpError::Gone)) => {}
        Some(Err(PumpError::Body(_))) | None => upload.reset(Reason::CANCEL),
    }
    // The stream first, then its place.
    drop(upload);
    drop(loan);
}

/// How long an upload may go on after its response has ended.
const UPLOAD_LINGER: Duration = Duration::from_mins(1);
