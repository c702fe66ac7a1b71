//! A request body that can be sent again, byte for byte.
//!
//! The first attempt streams the body while a copy of what passed is kept (reference-counted, not copied); later
//! attempts send the kept part and go on with the rest. A body that outgrows its bound streams on and can no longer be
//! replayed. Only the newest attempt may read: what an abandoned one still holds yields [`BodyError::Superseded`].

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::body::{Body, BodyError};

/// The bytes that all kept request bodies together may hold.
#[derive(Debug)]
pub struct ByteBudget {
    available: AtomicUsize,
}

impl ByteBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self {
            available: AtomicUsize::new(bytes),
        }
    }

    /// Bytes that can still be kept.
    #[must_use]
    pub fn available(&self) -> usize {
        self.available.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        self.available
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |available| {
                available.checked_sub(bytes)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.available.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A call's request body, kept for as many attempts as it takes.
#[derive(Debug)]
pub struct Replayable {
    kept: Arc<Mutex<Kept>>,
}

impl Replayable {
    /// Keeps up to `bytes_max` of `body`, within `budget`.
    #[must_use]
    pub fn new(body: Body, bytes_max: usize, budget: Arc<ByteBudget>) -> Self {
        Self::keeping(body, bytes_max, Keeping::All, budget)
    }

    /// Keeps nothing of `body`, but tells afterwards whether it would have been replayable: for calls that are observed.
    #[must_use]
    pub fn measured(body: Body, bytes_max: usize) -> Self {
        let nothing = Arc::new(ByteBudget::new(0));
        Self::keeping(body, bytes_max, Keeping::Count, nothing)
    }

    fn keeping(body: Body, bytes_max: usize, fitting: Keeping, budget: Arc<ByteBudget>) -> Self {
        let state = if body.size_hint().lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
            Keeping::Outgrown
        } else {
            fitting
        };
        let kept = Kept {
            source: body,
            frames: Vec::new(),
            bytes: 0,
            bytes_max,
            trailers: None,
            end: End::No,
            state,
            attempt: 0,
            budget,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// The body for one more attempt; those handed out before are superseded.
    #[must_use]
    pub fn body(&self) -> Body {
        let mut kept = lock(&self.kept);
        kept.attempt += 1;
        Body::Replay(Replay {
            kept: Arc::clone(&self.kept),
            attempt: kept.attempt,
            position: 0,
            end_passed: false,
        })
    }

    /// Whether a further attempt would send the same bytes from the start.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        let kept = lock(&self.kept);
        !matches!(kept.state, Keeping::Outgrown) && !matches!(kept.end, End::Failed)
    }
}

/// One attempt's reader of a [`Replayable`].
#[derive(Debug)]
pub struct Replay {
    kept: Arc<Mutex<Kept>>,
    attempt: u32,
    position: usize,
    end_passed: bool,
}

impl Replay {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.end_passed {
            return Poll::Ready(None);
        }
        let mut kept = lock(&self.kept);
        if kept.attempt != self.attempt {
            self.end_passed = true;
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(frame) = kept.frames.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(frame.clone()))));
        }
        if matches!(kept.end, End::No)
            && let Some(frame) = ready!(kept.poll_source(cx))
        {
            // Nothing is kept of an empty frame, nor of any once the body is outgrown.
            self.position = kept.frames.len();
            self.end_passed = frame.is_err();
            return Poll::Ready(Some(frame.map(Frame::data)));
        }
        self.end_passed = true;
        Poll::Ready(match kept.end {
            End::Failed => Some(Err(BodyError::Superseded)),
            End::No | End::Reached => kept
                .trailers
                .clone()
                .map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }

    pub(super) fn is_end_stream(&self) -> bool {
        if self.end_passed {
            return true;
        }
        let kept = lock(&self.kept);
        self.position >= kept.frames.len()
            && match kept.end {
                End::No => kept.source.is_end_stream(),
                End::Reached => kept.trailers.is_none(),
                End::Failed => false,
            }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let kept = lock(&self.kept);
        let ahead: usize = kept.frames.iter().skip(self.position).map(Bytes::len).sum();
        let ahead = u64::try_from(ahead).unwrap_or(u64::MAX);
        let source = kept.source.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(source.lower().saturating_add(ahead));
        if let Some(upper) = source.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

/// What has passed of the body so far.
#[derive(Debug)]
struct Kept {
    source: Body,
    frames: Vec<Bytes>,
    bytes: usize,
    bytes_max: usize,
    trailers: Option<HeaderMap>,
    end: End,
    state: Keeping,
    attempt: u32,
    budget: Arc<ByteBudget>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    No,
    Reached,
    Failed,
}

#[derive(Debug, Clone, Copy)]
enum Keeping {
    All,
    /// Only how much there is.
    Count,
    Outgrown,
}

impl Kept {
    /// The next data frame of the source; `None` at its end, when trailers (if any) have been kept.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.keep(&data);
                    Poll::Ready(Some(Ok(data)))
                }
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok();
                    self.end = End::Reached;
                    Poll::Ready(None)
                }
            },
            Some(Err(error)) => {
                self.end = End::Failed;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.end = End::Reached;
                Poll::Ready(None)
            }
        }
    }

    fn keep(&mut self, data: &Bytes) {
        match self.state {
            Keeping::Outgrown => return,
            Keeping::Count => {
                match self.bytes_max.checked_sub(data.len()) {
                    Some(left) => self.bytes_max = left,
                    None => self.state = Keeping::Outgrown,
                }
                return;
            }
            Keeping::All if data.is_empty() => return,
            Keeping::All => {}
        }
        if self.frames.len() >= FRAMES_MAX
            || self.bytes + data.len() > self.bytes_max
            || !self.budget.take(data.len())
        {
            self.state = Keeping::Outgrown;
            self.forget();
        } else {
            self.bytes += data.len();
            self.frames.push(data.clone());
        }
    }

    fn forget(&mut self) {
        self.frames = Vec::new();
        self.budget.give_back(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Most frames that are kept. A body of so many pieces costs more to hold than its bytes say.
const FRAMES_MAX: usize = 1024;

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // No code of ours panics while it holds this lock; a poisoned one still holds a whole state.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::upstream::http2::testing::source;

    fn budget() -> Arc<ByteBudget> {
        Arc::new(ByteBudget::new(1024))
    }

    async fn bytes(body: Body) -> Result<Bytes, BodyError> {
        body.collect()
            .await
            .map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn every_attempt_sends_the_same_bytes() {
        let replayable = Replayable::new(Body::full("hello"), 64, budget());
        assert_eq!(bytes(replayable.body()).await.unwrap(), "hello");
        assert!(replayable.is_replayable());
        assert_eq!(bytes(replayable.body()).await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_body_over_its_bound_streams_but_is_not_replayed() {
        let replayable = Replayable::new(Body::full("hello"), 4, budget());
        assert!(!replayable.is_replayable());
        assert_eq!(bytes(replayable.body()).await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_measured_body_says_whether_it_would_be_replayable_and_keeps_nothing() {
        for (bytes_max, fits) in [(5, true), (4, false)] {
            let (sender, body) = source().await;
            let measured = Replayable::measured(body, bytes_max);
            let read = tokio::spawn(bytes(measured.body()));
            sender.send(Bytes::from_static(b"hel")).await.unwrap();
            sender.send(Bytes::from_static(b"lo")).await.unwrap();
            drop(sender);
            assert_eq!(read.await.unwrap().unwrap(), "hello");
            assert_eq!(measured.is_replayable(), fits, "of at most {bytes_max}");
            assert!(lock(&measured.kept).frames.is_empty());
        }
    }

    #[tokio::test]
    async fn an_abandoned_attempt_cannot_take_bytes_from_the_newer_one() {
        let replayable = Replayable::new(Body::full("hello"), 64, budget());
        let abandoned = replayable.body();
        let newer = replayable.body();
        assert!(matches!(bytes(abandoned).await, Err(BodyError::Superseded)));
        assert_eq!(bytes(newer).await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_body_of_too_many_pieces_streams_but_is_not_replayed() {
        let (sender, body) = source().await;
        let replayable = Replayable::new(body, 1 << 20, Arc::new(ByteBudget::new(1 << 20)));
        let read = tokio::spawn(bytes(replayable.body()));
        for _ in 0..=FRAMES_MAX {
            sender.send(Bytes::from_static(b"a")).await.unwrap();
        }
        drop(sender);
        assert_eq!(read.await.unwrap().unwrap().len(), FRAMES_MAX + 1);
        assert!(!replayable.is_replayable());
    }

    #[test]
    fn nothing_is_kept_of_an_empty_piece() {
        let replayable = Replayable::new(Body::Empty, 64, budget());
        lock(&replayable.kept).keep(&Bytes::new());
        assert_eq!(lock(&replayable.kept).frames.len(), 0);
        assert!(replayable.is_replayable());
    }

    #[tokio::test]
    async fn kept_bytes_go_back_to_the_budget() {
        let budget = budget();
        let replayable = Replayable::new(Body::full("hello"), 64, Arc::clone(&budget));
        bytes(replayable.body()).await.unwrap();
        assert_eq!(budget.available(), 1019);
        drop(replayable);
        assert_eq!(budget.available(), 1024);
    }

    #[tokio::test]
    async fn an_empty_byte_budget_stops_replays_and_not_the_call() {
        let replayable = Replayable::new(Body::full("hello"), 64, Arc::new(ByteBudget::new(2)));
        assert_eq!(bytes(replayable.body()).await.unwrap(), "hello");
        assert!(!replayable.is_replayable());
    }
}
