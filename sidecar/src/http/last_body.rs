//! An HTTP/1 response body that came before its request was sent whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::AbortHandle;

/// A response body that came before its request was sent whole.
///
/// When it ends or is dropped and the request still is not through, its connection is of no further use: it is closed by
/// ending the task that drives it.
#[derive(Debug)]
pub struct LastBody {
    incoming: Incoming,
    driver: Option<AbortHandle>,
    request_sent: Arc<AtomicBool>,
}

impl LastBody {
    /// A body that ends `driver` unless `request_sent` is set by then.
    #[must_use]
    pub fn new(
        incoming: Incoming,
        driver: Option<AbortHandle>,
        request_sent: Arc<AtomicBool>,
    ) -> Self {
        Self {
            incoming,
            driver,
            request_sent,
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for LastBody {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver
            && !self.request_sent.load(Ordering::Relaxed)
        {
            driver.abort();
        }
    }
}
