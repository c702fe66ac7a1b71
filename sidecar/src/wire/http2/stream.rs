//! One stream: its request to the proxy, the answer back.

use std::future::Future as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http_body::Body as _;

use crate::http::body::{Body, BodyError, Http2Body};
use crate::http::http2_pump::{Pump, PumpError};
use crate::http::interim;
use crate::proxy::{Arrival, Proxy};
use crate::respond::ResetStream;
use crate::stack::ResponseBody;

/// What the streams of a connection share.
pub(super) struct Shared {
    pub(super) proxy: Proxy,
    pub(super) arrival: Arrival,
}

/// Answers one request. Runs in an [`interim::scope`].
pub(super) async fn answer(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
) {
    let Some(response) = head(request, &mut respond, &shared).await else {
        // Reset by the application: the answer is dropped, and with it all that it held.
        return;
    };
    let (head, body) = response.into_parts();
    if let Some(ResetStream(reason)) = head.extensions.get() {
        respond.send_reset(*reason);
        return;
    }
    let is_end = body.is_end_stream();
    let Ok(stream) = respond.send_response(http::Response::from_parts(head, ()), is_end) else {
        return;
    };
    // The pump has the stream's only other handle.
    drop(respond);
    if is_end {
        return;
    }
    let mut pump = Pump::new(body, stream);
    if let Err(PumpError::Body(error)) = poll_fn(|cx| pump.poll(cx)).await {
        pump.reset(reason(&error));
    }
}

async fn head(
    request: http::Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    shared: &Shared,
) -> Option<http::Response<ResponseBody>> {
    let mut answer = pin!(shared.proxy.answer(request_of(request), &shared.arrival));
    poll_fn(|cx| {
        if is_reset(respond, cx) {
            return Poll::Ready(None);
        }
        let answer = answer.as_mut().poll(cx);
        for response in interim::take() {
            let _a_reset_stream_needs_none = respond.send_informational(response);
        }
        answer.map(Some)
    })
    .await
}

fn is_reset(respond: &mut SendResponse<Bytes>, cx: &mut Context<'_>) -> bool {
    respond.poll_reset(cx).is_ready()
}

fn request_of(request: http::Request<RecvStream>) -> http::Request<Body> {
    let (head, stream) = request.into_parts();
    let body = if stream.is_end_stream() {
        Body::Empty
    } else {
        let length = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        Body::Http2(Http2Body::new(stream, length))
    };
    http::Request::from_parts(head, body)
}

/// The code to reset a stream with whose body failed: the one its sender gave, where there is one.
fn reason(error: &BodyError) -> Reason {
    match error {
        BodyError::Http2(error) if error.is_reset() => {
            error.reason().unwrap_or(Reason::INTERNAL_ERROR)
        }
        BodyError::Http2(_) | BodyError::Http1(_) | BodyError::Superseded => Reason::INTERNAL_ERROR,
    }
}
