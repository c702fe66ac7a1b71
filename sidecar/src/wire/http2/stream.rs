//! One stream: its request to the proxy, the answer back.

use std::future::Future as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http_body::Body as _;
use tokio::time::Instant;

use super::abuse::{Allowance, Violation};
use super::watched::Seen;
use crate::http::body::{Body, BodyError, Http2Body};
use crate::http::header_limit::HeaderLimit;
use crate::http::http2_pump::{Pump, PumpError};
use crate::http::interim;
use crate::proxy::{Arrival, Proxy};
use crate::respond::ResetStream;
use crate::stack::ResponseBody;

/// What the streams of a connection share.
pub(super) struct Shared {
    proxy: Proxy,
    arrival: Arrival,
    header_limit: HeaderLimit,
    seen: Arc<Seen>,
    rapid_resets: Mutex<Allowance>,
}

impl Shared {
    pub(super) fn new(
        proxy: Proxy,
        arrival: Arrival,
        header_limit: HeaderLimit,
        seen: Arc<Seen>,
    ) -> Self {
        let rapid_resets =
            Allowance::new(RAPID_RESETS_MAX, RAPID_RESETS_PER_SECOND, Instant::now());
        Self {
            proxy,
            arrival,
            header_limit,
            seen,
            rapid_resets: Mutex::new(rapid_resets),
        }
    }

    /// A request was given up by its application. Giving up is everyday; asking and giving up in one breath, again and
    /// again, only makes work (CVE-2023-44487).
    fn given_up(&self, began: Instant) {
        if began.elapsed() > RAPID {
            return;
        }
        let mut rapid_resets = self
            .rapid_resets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !rapid_resets.take(Instant::now) {
            self.seen.breaks(Violation::Flood);
        }
    }
}

/// Answers one request. Runs in an [`interim::scope`].
pub(super) async fn answer(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
) {
    if shared.header_limit.check_request(&request).is_err() {
        return refuse(&mut respond);
    }
    let began = Instant::now();
    let response = match head(request, &mut respond, &shared).await {
        Ok(response) => response,
        // The answer was dropped, and with it all that it held.
        Err(GivenUp::Reset) => return shared.given_up(began),
        Err(GivenUp::ConnectionGone) => return,
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
    if is_end {
        return;
    }
    let mut pump = Pump::new(body, stream);
    if let Err(PumpError::Body(error)) = poll_fn(|cx| pump.poll(cx)).await {
        let reason = reason(&error);
        shared.seen.passes_on(reason);
        pump.reset(reason);
    }
}

/// RFC 6585 §5. The request's body goes unread with its stream.
fn refuse(respond: &mut SendResponse<Bytes>) {
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let _a_reset_stream_needs_none = respond.send_response(response, true);
}

/// Why the application no longer wants an answer.
enum GivenUp {
    Reset,
    ConnectionGone,
}

/// The answer, unless the application goes before it. Interim responses are sent as they come.
async fn head(
    request: http::Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    shared: &Shared,
) -> Result<http::Response<ResponseBody>, GivenUp> {
    let request = request_of(request, shared.header_limit);
    let mut answer = pin!(shared.proxy.answer(request, &shared.arrival));
    poll_fn(|cx| {
        if let Poll::Ready(reset) = respond.poll_reset(cx) {
            let reset = reset.map_or(GivenUp::ConnectionGone, |_| GivenUp::Reset);
            return Poll::Ready(Err(reset));
        }
        let answer = answer.as_mut().poll(cx);
        for response in interim::take() {
            let _a_reset_stream_needs_none = respond.send_informational(response);
        }
        answer.map(Ok)
    })
    .await
}

fn request_of(
    request: http::Request<RecvStream>,
    header_limit: HeaderLimit,
) -> http::Request<Body> {
    let (head, stream) = request.into_parts();
    let body = if stream.is_end_stream() {
        Body::Empty
    } else {
        let length = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        Body::Http2(Http2Body::new(stream, header_limit).of_length(length))
    };
    http::Request::from_parts(head, body)
}

/// The code to reset a stream with whose body failed: the one its sender gave, where there is one.
fn reason(error: &BodyError) -> Reason {
    match error {
        BodyError::Http2(error) if error.is_reset() => {
            error.reason().unwrap_or(Reason::INTERNAL_ERROR)
        }
        BodyError::Http2(_)
        | BodyError::Http1(_)
        | BodyError::TrailersTooLarge(_)
        | BodyError::Superseded => Reason::INTERNAL_ERROR,
    }
}

/// A request that is given up sooner was never waited for.
const RAPID: Duration = Duration::from_millis(5);

/// How many such there may be at once.
const RAPID_RESETS_MAX: u32 = 200;

/// How many more a second.
const RAPID_RESETS_PER_SECOND: u32 = 100;
