//! A message body on its way through weir, whatever protocol it came by.
//!
//! Pulling a frame is what gives its sender room for the next one: nothing is read ahead, so a slow reader stops a
//! fast writer, and memory stays flat.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::header_limit::TooLarge;
pub use super::http2_body::Http2Body;
pub use super::last_body::LastBody;
use super::replay::Replay;

/// A message body.
#[derive(Debug)]
pub enum Body {
    /// No bytes, no trailers.
    Empty,
    /// Bytes of ours, yielded once.
    Full(Option<Bytes>),
    /// A body read by hyper from an HTTP/1 connection.
    Http1(hyper::body::Incoming),
    /// The same, with the last bytes of its connection.
    Http1Last(LastBody),
    /// A body read from an HTTP/2 stream.
    Http2(Http2Body),
    /// A request body that can be sent more than once.
    Replay(Replay),
}

impl Body {
    /// A body of these bytes.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(Some(bytes))
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Http1),
            Self::Http1Last(last) => last.poll_frame(cx).map_err(BodyError::Http1),
            Self::Http2(body) => body.poll_frame(cx),
            Self::Replay(replay) => replay.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http1Last(last) => last.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Replay(replay) => replay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(
                bytes
                    .as_ref()
                    .map_or(0, |b| u64::try_from(b.len()).unwrap_or(u64::MAX)),
            ),
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http1Last(last) => last.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Replay(replay) => replay.size_hint(),
        }
    }
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The HTTP/1 connection failed, or its bytes were malformed.
    #[error("HTTP/1: {0}")]
    Http1(#[source] hyper::Error),
    /// The HTTP/2 stream was reset, or its connection failed.
    #[error("HTTP/2: {0}")]
    Http2(#[source] h2::Error),
    /// The trailers of an HTTP/2 message are larger than the limit.
    #[error("trailers: {0}")]
    TrailersTooLarge(#[source] TooLarge),
    /// A newer attempt took the request body over.
    #[error("a newer attempt took the request body over")]
    Superseded,
}

impl BodyError {
    /// A word from a closed set, for the record of a call whose response ended so.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TrailersTooLarge(_) => "trailers_too_large",
            Self::Http1(_) | Self::Http2(_) | Self::Superseded => "body_reset",
        }
    }
}
