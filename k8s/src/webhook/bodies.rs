//! Reads the bodies of reviews within a budget, so that many large ones at a time do not take the memory of all.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// What is left of the budget. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

/// A body that was read whole. Its share of the budget comes back when it is dropped.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

/// Why a body was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    #[error("the body has more than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the body broke off: {0}")]
    BrokenOff(String),
    #[error("the body was not there after {BODY_TIME_MAX:?}")]
    TooSlow,
    #[error("too many reviews of more than {SMALL_BYTES} bytes at a time; try again")]
    TooManyLarge,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BYTES)))
    }

    /// Reads a body, which is small or gets its share of the budget as it comes.
    pub(super) async fn read(&self, mut body: Body) -> Result<Whole, Unread> {
        match timeout(BODY_TIME_MAX, self.gather(&mut body)).await {
            Ok(Err(unread @ (Unread::TooLarge | Unread::TooManyLarge))) => {
                // Who is still writing would be cut off, and not read why.
                drop(timeout(BODY_TIME_MAX, discard(&mut body)).await);
                Err(unread)
            }
            Ok(read) => read,
            Err(_) => Err(Unread::TooSlow),
        }
    }

    async fn gather(&self, body: &mut Body) -> Result<Whole, Unread> {
        let mut whole = Whole {
            bytes: Vec::new(),
            share: None,
        };
        // API servers say how much will come. What is too much is refused before it is read.
        let told = body.size_hint().lower();
        self.grow(&mut whole, usize::try_from(told).unwrap_or(usize::MAX))?;
        while let Some(frame) = next(body).await {
            let frame = frame.map_err(|error| Unread::BrokenOff(error.to_string()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let length = whole.bytes.len() + data.len();
            self.grow(&mut whole, length)?;
            whole.bytes.extend_from_slice(&data);
        }
        Ok(whole)
    }

    /// Makes room for `length` bytes in all, and takes from the budget what the room takes of the memory.
    fn grow(&self, whole: &mut Whole, length: usize) -> Result<(), Unread> {
        if length > BODY_BYTES_MAX {
            return Err(Unread::TooLarge);
        }
        let room = whole.bytes.capacity();
        if length <= room {
            return Ok(());
        }
        let room = length.max(room.saturating_mul(2)).min(BODY_BYTES_MAX);
        let share = whole.share.as_ref();
        let held = share.map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = room.saturating_sub(SMALL_BYTES.saturating_add(held));
        if wanted > 0 {
            let wanted = u32::try_from(wanted).map_err(|_| Unread::TooLarge)?;
            let more = Arc::clone(&self.0).try_acquire_many_owned(wanted);
            let more = more.map_err(|_| Unread::TooManyLarge)?;
            match &mut whole.share {
                Some(share) => share.merge(more),
                None => whole.share = Some(more),
            }
        }
        whole.bytes.reserve_exact(room - whole.bytes.len());
        Ok(())
    }
}

async fn next(body: &mut Body) -> Option<Result<Frame<Bytes>, axum::Error>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// Reads on for a while, and keeps nothing.
async fn discard(body: &mut Body) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = next(body).await {
        discarded += frame.data_ref().map_or(0, Bytes::len);
        if discarded > 2 * BODY_BYTES_MAX {
            return;
        }
    }
}

/// Largest review in bytes: etcd takes objects of 1.5 MiB, and a review of an update has two.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// What every review may have, whatever the others are like: ten times that of a usual pod.
const SMALL_BYTES: usize = 64 * 1024;

/// What all reviews together may have beyond that: a replica has 128 MiB.
const LARGE_BYTES: usize = 16 * 1024 * 1024;

/// Longest that a body may take. An API server sends it at once, and gives up after `injector.timeoutSeconds`.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: usize) -> Body {
        Body::from(vec![b' '; bytes])
    }

    #[tokio::test]
    async fn large_bodies_share_what_there_is_and_small_ones_always_pass() {
        let bodies = Bodies::new();
        let mut held = Vec::new();
        let refused = loop {
            match bodies.read(body(BODY_BYTES_MAX)).await {
                Ok(whole) => held.push(whole),
                Err(refused) => break refused,
            }
        };
        assert_eq!((held.len(), refused), (5, Unread::TooManyLarge));
        assert!(bodies.read(body(SMALL_BYTES)).await.is_ok());
        held.pop();
        let whole = bodies.read(body(BODY_BYTES_MAX)).await.unwrap();
        assert_eq!(whole.bytes.len(), BODY_BYTES_MAX);
        drop((held, whole));
        assert_eq!(bodies.0.available_permits(), LARGE_BYTES);
    }

    #[tokio::test]
    async fn a_body_whose_length_nobody_tells_is_read_too() {
        let chunks = [vec![b'a'; SMALL_BYTES], vec![b'b'; SMALL_BYTES], vec![b'c']];
        let chunks = chunks.map(Ok::<_, std::convert::Infallible>);
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        let whole = Bodies::new().read(body).await.unwrap();
        assert_eq!(whole.bytes.len(), 2 * SMALL_BYTES + 1);
        assert!(
            whole
                .share
                .is_some_and(|share| share.num_permits() > SMALL_BYTES)
        );
    }

    #[tokio::test]
    async fn a_body_above_the_bound_is_refused() {
        let refused = Bodies::new().read(body(BODY_BYTES_MAX + 1)).await.err();
        assert_eq!(refused, Some(Unread::TooLarge));
    }
}
