//! Tells callers about every new revision as it comes: server-sent events (HTML Living Standard §9.2), with resume.
//!
//! A caller that was away sends the last id that it saw, and gets every revision since that is still remembered. What a
//! slow caller misses meanwhile is not queued for it: it is read from the history when the caller is ready.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::api::Api;
use super::refusal::Refusal;
use crate::store::Store;
use crate::view::Revision;

/// `GET /v1/watch`
pub(super) async fn watch(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Refusal> {
    let permit = Arc::clone(&api.watchers)
        .try_acquire_owned()
        .map_err(|_| Refusal::TooManyWatchers)?;
    let follower = Follower {
        revisions: api.store.subscribe(),
        seen: last_event_id(&headers)?,
        store: api.store,
        _permit: permit,
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::new(Events::of(follower))).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some)
        .ok_or_else(|| Refusal::Malformed("Last-Event-ID: expected a revision".to_owned()))
}

/// One caller, and how far it has read.
struct Follower {
    store: Arc<Store>,
    revisions: watch::Receiver<u64>,
    /// The last revision that it has been told. None: it wants the one in force, and what follows.
    seen: Option<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// Waits for something to tell. None: there will be no more.
    async fn next(mut self) -> Next {
        loop {
            self.revisions.borrow_and_update();
            let text = self.news();
            if !text.is_empty() {
                return Some((self, text));
            }
            match tokio::time::timeout(KEEP_ALIVE, self.revisions.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                // A comment, which tells both ends that the other is still there.
                Err(_) => return Some((self, ":\n\n".to_owned())),
            }
        }
    }

    /// The events that this caller has not seen.
    fn news(&mut self) -> String {
        let revisions = self.store.revisions();
        let newest = revisions.last().map_or(0, |revision| revision.revision);
        // An id from the future was given out before a restart without a state directory: all is new again.
        let seen = self.seen.filter(|seen| *seen <= newest);
        let seen = seen.unwrap_or(newest.saturating_sub(1));
        self.seen = Some(newest);
        revisions
            .iter()
            .filter(|known| known.revision > seen)
            .map(event)
            .collect()
    }
}

fn event(revision: &Revision) -> String {
    let data = serde_json::to_string(revision).unwrap_or_default();
    format!(
        "id: {}\nevent: revision\ndata: {data}\n\n",
        revision.revision
    )
}

/// A response body that never ends by itself.
struct Events {
    next: Pin<Box<dyn Future<Output = Next> + Send>>,
}

/// The follower and what it is told; None after the last.
type Next = Option<(Follower, String)>;

impl Events {
    fn of(follower: Follower) -> Self {
        Self {
            next: Box::pin(follower.next()),
        }
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((follower, text)) = ready!(self.next.as_mut().poll(context)) else {
            self.next = Box::pin(std::future::pending());
            return Poll::Ready(None);
        };
        *self = Self::of(follower);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }
}

/// Longest silence.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
