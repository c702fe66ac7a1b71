//! Moves a body into an HTTP/2 stream, a frame at a time.
//!
//! The next frame is asked for only when the stream has room again: the frame before has then been given all the
//! window it needs, and less than the send buffer's bound waits for the socket. So a slow reader stops a fast writer,
//! and a stream holds at most one frame more than its bounds.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::body::BodyError;

/// A body on its way into a stream.
#[derive(Debug)]
pub struct Pump<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// Whether the frame before may still wait for window or buffer.
    is_full: bool,
}

/// Why a body did not reach its end.
#[derive(Debug)]
pub enum PumpError {
    /// The body's own side failed.
    Body(BodyError),
    /// The receiver reset the stream.
    Reset(Reason),
    /// The receiver's connection is gone.
    Gone,
}

impl<B> Pump<B>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Unpin,
{
    /// Will send `body` into `stream`, whose head was sent without `END_STREAM`.
    pub fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            is_full: false,
        }
    }

    /// Goes on until the body has ended, or a side is not ready. Not to be called again once ready.
    ///
    /// # Errors
    /// When either side failed; the stream is then to be reset or dropped.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        loop {
            if self.is_full {
                ready!(self.poll_room(cx))?;
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    return match self.stream.poll_reset(cx) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(reset) => Poll::Ready(Err(receiver_failed(reset))),
                    };
                }
                Poll::Ready(None) => return Poll::Ready(self.send(Bytes::new(), End::Yes, cx)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(PumpError::Body(error))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        if self.body.is_end_stream() {
                            return Poll::Ready(self.send(data, End::Yes, cx));
                        }
                        // An empty DATA frame says nothing, and receivers count them as abuse.
                        if !data.is_empty() {
                            self.send(data, End::No, cx)?;
                            self.stream.reserve_capacity(1);
                            self.is_full = self.stream.capacity() == 0;
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Poll::Ready(match self.stream.send_trailers(trailers) {
                            Ok(()) => Ok(()),
                            Err(_) => Err(self.why_closed(cx)),
                        });
                    }
                },
            }
        }
    }

    /// Resets the stream.
    pub fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        match self.stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => {
                self.is_full = false;
                Poll::Ready(Ok(()))
            }
            // The stream is no longer open for sending.
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Err(self.why_closed(cx))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn send(&mut self, data: Bytes, end: End, cx: &mut Context<'_>) -> Result<(), PumpError> {
        self.stream
            .send_data(data, end == End::Yes)
            .map_err(|_| self.why_closed(cx))
    }

    fn why_closed(&mut self, cx: &mut Context<'_>) -> PumpError {
        match self.stream.poll_reset(cx) {
            Poll::Ready(reset) => receiver_failed(reset),
            Poll::Pending => PumpError::Gone,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Yes,
    No,
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "what polling for a reset answers"
)]
fn receiver_failed(reset: Result<Reason, h2::Error>) -> PumpError {
    reset.map_or_else(|_| PumpError::Gone, PumpError::Reset)
}
