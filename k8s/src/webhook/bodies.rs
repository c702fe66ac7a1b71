//! Reads the bodies of reviews within a budget, so that many large ones at a time do not take the memory of all.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// What is left of the budget. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

/// A body that was read whole. Its share of the budget comes back when it is dropped.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    _share: Option<OwnedSemaphorePermit>,
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
    pub(super) async fn read(&self, body: Body) -> Result<Whole, Unread> {
        match timeout(BODY_TIME_MAX, self.gather(body)).await {
            Ok(read) => read,
            Err(_) => Err(Unread::TooSlow),
        }
    }

    async fn gather(&self, mut body: Body) -> Result<Whole, Unread> {
        let mut bytes = Vec::new();
        let mut share: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame = frame.map_err(|error| Unread::BrokenOff(error.to_string()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let length = bytes.len() + data.len();
            if length > BODY_BYTES_MAX {
                return Err(Unread::TooLarge);
            }
            let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let wanted = length.saturating_sub(SMALL_BYTES + held);
            if wanted > 0 {
                let more = u32::try_from(wanted).map_err(|_| Unread::TooLarge)?;
                let more = Arc::clone(&self.0).try_acquire_many_owned(more);
                let more = more.map_err(|_| Unread::TooManyLarge)?;
                match &mut share {
                    Some(share) => share.merge(more),
                    None => share = Some(more),
                }
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Whole {
            bytes,
            _share: share,
        })
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
    async fn a_body_above_the_bound_is_refused() {
        let refused = Bodies::new().read(body(BODY_BYTES_MAX + 1)).await.err();
        assert_eq!(refused, Some(Unread::TooLarge));
    }
}
