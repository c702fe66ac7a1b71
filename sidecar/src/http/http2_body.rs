//! The receiving side of an HTTP/2 stream as a body.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::body::BodyError;
use super::header_limit::HeaderLimit;
use super::loan::Hold;

/// The receiving side of an HTTP/2 stream as a body.
///
/// A frame's flow-control credit is released when the *next* frame is asked for: by then the consumer has passed the
/// bytes on. What is left when the body is dropped goes back to the connection's window with the stream.
#[derive(Debug)]
pub struct Http2Body {
    // Dropped before `hold`: the stream is given up first, then its place on the connection.
    stream: h2::RecvStream,
    hold: Hold,
    length: Option<u64>,
    trailer_limit: HeaderLimit,
    unreleased: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    Ended,
    Failed,
}

impl Http2Body {
    /// Wraps a stream whose trailers may be so large.
    #[must_use]
    pub fn new(stream: h2::RecvStream, trailer_limit: HeaderLimit) -> Self {
        Self {
            stream,
            hold: Hold::Nothing,
            length: None,
            trailer_limit,
            unreleased: 0,
            state: State::Data,
        }
    }

    /// With its content-length, where one was given.
    #[must_use]
    pub fn of_length(mut self, length: Option<u64>) -> Self {
        self.length = length;
        self
    }

    /// Holding its place on a connection until it ends or is dropped.
    #[must_use]
    pub fn holding(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.unreleased > 0 {
            let _closed_streams_need_no_credit =
                self.stream.flow_control().release_capacity(self.unreleased);
            self.unreleased = 0;
        }
        if self.state == State::Data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.unreleased = data.len();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // Data => Failed
                Some(Err(error)) => return self.fail(BodyError::Http2(error)),
                // Data => Trailers
                None => self.state = State::Trailers,
            }
        }
        if self.state != State::Trailers {
            return Poll::Ready(None);
        }
        match ready!(self.poll_trailers(cx)) {
            // Trailers => Ended
            Ok(trailers) => {
                self.state = State::Ended;
                self.hold.ended();
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            // Trailers => Failed
            Err(error) => self.fail(error),
        }
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, BodyError>> {
        let trailers = ready!(self.stream.poll_trailers(cx)).map_err(BodyError::Http2)?;
        if let Some(trailers) = &trailers {
            let checked = self.trailer_limit.check_trailers(trailers);
            checked.map_err(BodyError::TrailersTooLarge)?;
        }
        Poll::Ready(Ok(trailers))
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state = State::Failed;
        Poll::Ready(Some(Err(error)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self.state {
            State::Data | State::Trailers => self.stream.is_end_stream(),
            State::Ended | State::Failed => true,
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        // A reader may stop at the last byte, and never ask for the end that came with it.
        if matches!(self.hold, Hold::Shared { .. })
            && self.state == State::Data
            && self.stream.is_end_stream()
        {
            self.hold.ended();
        }
    }
}
