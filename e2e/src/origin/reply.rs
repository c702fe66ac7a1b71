//! A reply and its body: a few bytes, or many made on the fly.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

/// Bytes of one frame of a large body.
const FRAME_BYTES: u64 = 16 * 1024;

/// What the server answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A response.
    Reply(Box<Reply>),
    /// The connection or stream is broken instead.
    Reset,
    /// The stream is refused.
    Refused,
    /// Nothing, ever.
    Hang,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Reply {
    /// A response with a short text.
    pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Body::full(text),
        }
    }

    /// A response with JSON.
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        let mut reply = Self::text(StatusCode::OK, value.to_string());
        reply.headers.insert(
            "content-type",
            http::HeaderValue::from_static("application/json"),
        );
        reply
    }
}

/// A body that hyper can send, and that h2 can be fed from.
#[derive(Debug)]
pub(crate) struct Body {
    first: Bytes,
    /// Made-up bytes still to come after `first`.
    rest: u64,
    /// Whether the length is told beforehand.
    sized: bool,
    /// The body breaks off at its end instead of ending, once this is over.
    cut: Option<Pin<Box<Sleep>>>,
    trailers: Option<HeaderMap>,
}

impl Body {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self {
            first: bytes.into(),
            rest: 0,
            sized: true,
            cut: None,
            trailers: None,
        }
    }

    /// `count` made-up bytes, with their number told beforehand or not.
    pub(crate) fn made_up(count: u64, sized: bool) -> Self {
        Self {
            first: Bytes::new(),
            rest: count,
            sized,
            cut: None,
            trailers: None,
        }
    }

    #[must_use]
    pub(crate) fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self.sized = false;
        self
    }

    /// Breaks off after half a promise.
    pub(crate) fn cut() -> Self {
        Self {
            first: Bytes::from_static(b"half of"),
            rest: 0,
            sized: false,
            // Later, so that what is before it has left by then.
            cut: Some(Box::pin(tokio::time::sleep(Duration::from_millis(50)))),
            trailers: None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if self.rest > 0 {
            static BYTES: [u8; FRAME_BYTES as usize] = [b'w'; FRAME_BYTES as usize];
            let count = self.rest.min(FRAME_BYTES);
            self.rest -= count;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(
                &BYTES[..count as usize],
            )))));
        }
        if let Some(cut) = &mut self.cut {
            ready!(cut.as_mut().poll(context));
            return Poll::Ready(Some(Err(std::io::Error::other("cut on purpose"))));
        }
        Poll::Ready(
            self.trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(trailers))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest == 0 && self.cut.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.sized {
            SizeHint::with_exact(self.first.len() as u64 + self.rest)
        } else {
            SizeHint::default()
        }
    }
}
