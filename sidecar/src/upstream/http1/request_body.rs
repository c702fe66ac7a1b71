//! A request body on its way to the server: tells when it is through, and waits for `100 Continue` where it was asked for.
//!
//! While it waits, nothing reads the application's body, and so weir's own `100 Continue` does not go out to the
//! application before the server's came in: the promise is the server's to make (RFC 9110 §10.1.1).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::progress::Permission;
use crate::http::body::{Body, BodyError};

/// A request body as hyper sends it.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Body,
    gate: Gate,
    /// Set when hyper lets go of the body: then it has taken all of it, or the connection has failed.
    sent: Option<Arc<AtomicBool>>,
}

#[derive(Debug)]
enum Gate {
    Open,
    /// The server has not yet said what it wants.
    Waiting(Box<Waiting>),
    /// The server answered without asking for the body.
    Shut,
}

#[derive(Debug)]
struct Waiting {
    permission: oneshot::Receiver<()>,
    patience: Pin<Box<Sleep>>,
}

impl RequestBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self {
            body: Body::Empty,
            gate: Gate::Open,
            sent: None,
        }
    }

    /// A body that is sent at once, and sets `sent` when it is through.
    pub(super) fn new(body: Body, sent: Arc<AtomicBool>) -> Self {
        Self {
            body,
            gate: Gate::Open,
            sent: Some(sent),
        }
    }

    /// A body that waits for permission, or until a server that knows no `100 Continue` has had its time.
    pub(super) fn awaiting_permission(body: Body, sent: Arc<AtomicBool>) -> (Self, Permission) {
        let (sender, permission) = oneshot::channel();
        let gate = Gate::Waiting(Box::new(Waiting {
            permission,
            patience: Box::pin(tokio::time::sleep(PATIENCE)),
        }));
        let body = Self {
            body,
            gate,
            sent: Some(sent),
        };
        (body, Permission::new(sender))
    }

    /// Ready when the gate is open; for ever pending when it is shut.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Gate::Waiting(waiting) = &mut self.gate else {
            return match self.gate {
                Gate::Shut => Poll::Pending,
                Gate::Open | Gate::Waiting(_) => Poll::Ready(()),
            };
        };
        match Pin::new(&mut waiting.permission).poll(cx) {
            Poll::Ready(Err(_final_head)) => {
                // Waiting => Shut. Letting go of the body tells the application's side that nobody will read it.
                self.gate = Gate::Shut;
                self.body = Body::Empty;
                return Poll::Pending;
            }
            Poll::Ready(Ok(())) => {}
            Poll::Pending => ready!(waiting.patience.as_mut().poll(cx)),
        }
        // Waiting => Open
        self.gate = Gate::Open;
        Poll::Ready(())
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if !matches!(this.gate, Gate::Open) {
            ready!(this.poll_gate(cx));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.gate, Gate::Open) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(sent) = &self.sent {
            sent.store(true, Ordering::Relaxed);
        }
    }
}

/// How long a server is waited for that does not answer an expectation: then the body is sent anyway, as RFC 9110
/// §10.1.1 lets every client do. curl waits as long.
const PATIENCE: Duration = Duration::from_secs(1);
