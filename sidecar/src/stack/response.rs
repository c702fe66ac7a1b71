//! A response body that gives back what its call holds when it ends, or is dropped.
//!
//! A streaming response is still in flight: its permit leaves with its last frame, and so does the call's record.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::record::Recording;
use crate::destination::Permit;
use crate::http::body::{Body, BodyError};

/// The body of a response on its way to the application.
#[derive(Debug)]
pub struct ResponseBody {
    body: Body,
    answered: Option<Instant>,
    permit: Option<Permit>,
    recording: Option<Recording>,
}

impl ResponseBody {
    /// A body that holds nothing.
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self {
            body,
            answered: None,
            permit: None,
            recording: None,
        }
    }

    /// The body of a response whose head came then.
    #[must_use]
    pub(super) fn answered_at(body: Body, at: Instant) -> Self {
        Self {
            answered: Some(at),
            ..Self::new(body)
        }
    }

    /// When the response's head came; none where the response is one of ours.
    pub(super) fn answered(&self) -> Option<Instant> {
        self.answered
    }

    /// Keeps the call's permit until the body has ended.
    #[must_use]
    pub(super) fn holding(mut self, permit: Permit) -> Self {
        // A body without frames may never be polled, only dropped later.
        self.permit = (!self.body.is_end_stream()).then_some(permit);
        self
    }

    /// Ends the call's record when the body has ended.
    #[must_use]
    pub(super) fn recorded_by(mut self, recording: Recording) -> Self {
        if self.body.is_end_stream() {
            recording.body_ended();
        } else {
            self.recording = Some(recording);
        }
        self
    }

    /// Whether its call is one that weir has no memory to read ahead for.
    #[must_use]
    pub fn is_short_of_memory(&self) -> bool {
        let permit = self.permit.as_ref();
        permit.is_some_and(|permit| permit.destination().memory().is_short())
    }

    /// Reads away what has already arrived, so that the connection can be used again; waits for nothing.
    pub(super) fn discard_arrived(mut self, cx: &mut Context<'_>) {
        let mut bytes_left = DISCARD_BYTES_MAX;
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut self).poll_frame(cx) {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match bytes_left.checked_sub(length) {
                Some(left) => bytes_left = left,
                None => return,
            }
        }
    }

    fn ended(&mut self, result: Result<(), &BodyError>) {
        self.permit = None;
        if let Some(recording) = self.recording.take() {
            match result {
                Ok(()) => recording.body_ended(),
                Err(error) => recording.body_failed(error),
            }
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            None => this.ended(Ok(())),
            Some(Err(error)) => this.ended(Err(error)),
            Some(Ok(frame)) => {
                let trailers = frame.trailers_ref();
                if let (Some(trailers), Some(recording)) = (trailers, &mut this.recording) {
                    recording.trailers(trailers);
                }
                // After trailers nobody asks again, and not every body knows that it has ended.
                if trailers.is_some() || this.body.is_end_stream() {
                    this.ended(Ok(()));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// More than this of an unwanted body is not worth a connection.
const DISCARD_BYTES_MAX: usize = 16 * 1024;
