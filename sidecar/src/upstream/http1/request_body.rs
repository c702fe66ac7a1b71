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
use crate::http::trailers::Section;

/// A request body as hyper sends it. Small, since a request is moved often, and mostly has none.
#[derive(Debug)]
pub(super) struct RequestBody(Option<Box<Sending>>);

#[derive(Debug)]
struct Sending {
    body: Body,
    gate: Gate,
    upload: Upload,
}

/// What a body tells those who wait for its response.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// Set when hyper lets go of the body: then it has taken all of it, or the connection has failed.
    pub(super) sent: Arc<AtomicBool>,
    /// Where trailers go.
    pub(super) trailers: Option<Arc<Section>>,
}

#[derive(Debug)]
enum Gate {
    Open,
    /// The server has not yet said what it wants.
    Waiting(Waiting),
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
        Self(None)
    }

    /// A body that is sent at once.
    pub(super) fn new(body: Body, upload: Upload) -> Self {
        let gate = Gate::Open;
        Self(Some(Box::new(Sending { body, gate, upload })))
    }

    /// A body that waits for permission, or until a server that knows no `100 Continue` has had its time.
    pub(super) fn awaiting_permission(body: Body, upload: Upload) -> (Self, Permission) {
        let (sender, permission) = oneshot::channel();
        let gate = Gate::Waiting(Waiting {
            permission,
            patience: Box::pin(tokio::time::sleep(PATIENCE)),
        });
        let body = Self(Some(Box::new(Sending { body, gate, upload })));
        (body, Permission::new(sender))
    }
}

impl Sending {
    /// Ready when the gate is open; for ever pending when it is shut.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = match &mut self.gate {
            Gate::Open => return Poll::Ready(()),
            Gate::Shut => return Poll::Pending,
            Gate::Waiting(waiting) => waiting,
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
        let Some(sending) = &mut self.get_mut().0 else {
            return Poll::Ready(None);
        };
        ready!(sending.poll_gate(cx));
        let frame = ready!(Pin::new(&mut sending.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            if let Some(section) = &sending.upload.trailers {
                section.put(trailers);
            }
            return Poll::Ready(None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|sending| {
            matches!(sending.gate, Gate::Open) && sending.body.is_end_stream()
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(sending) => sending.body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.upload.sent.store(true, Ordering::Relaxed);
    }
}

/// How long a server is waited for that does not answer an expectation: then the body is sent anyway, as RFC 9110
/// §10.1.1 lets every client do. curl waits as long.
const PATIENCE: Duration = Duration::from_secs(1);
