//! Request bodies that are still being sent while their responses come in: a task each, all of them the endpoint's.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use h2::Reason;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::lock;
use crate::http::body::Body;
use crate::http::http2_pump::{Pump, PumpError};
use crate::http::loan::{Hold, Loan};

/// The uploads of one endpoint. Dropping it ends them.
#[derive(Debug, Default)]
pub(super) struct Uploads(Arc<Mutex<JoinSet<()>>>);

impl Uploads {
    /// Lets an upload go on while its response comes in. Both hold the stream's place.
    pub(super) fn go_on(&self, upload: Pump<Body>, loan: Loan) -> Hold {
        let loan = Arc::new(loan);
        let (ended, response_ended) = oneshot::channel();
        let upload = finish(upload, Arc::clone(&loan), response_ended);
        // The tasks must not keep the set that owns them.
        let others = Arc::downgrade(&self.0);
        lock(&self.0).spawn(async move {
            upload.await;
            // Frees those that ended before, so that after a burst only the last one is left.
            if let Some(others) = others.upgrade() {
                while lock(&others).try_join_next().is_some() {}
            }
        });
        Hold::Shared {
            loan,
            ended: Some(ended),
        }
    }

    /// Ends all of them.
    pub(super) fn abort(&self) {
        lock(&self.0).abort_all();
    }
}

/// Sends the rest of an upload. A response that was given up ends it; one that came to its end leaves it
/// [`UPLOAD_LINGER`] for what a server may still want to read.
async fn finish(
    mut upload: Pump<Body>,
    loan: Arc<Loan>,
    mut response_ended: oneshot::Receiver<()>,
) {
    let sent = tokio::select! {
        biased;
        sent = poll_fn(|cx| upload.poll(cx)) => Some(sent),
        ended = &mut response_ended => match ended {
            Ok(()) => timeout(UPLOAD_LINGER, poll_fn(|cx| upload.poll(cx))).await.ok(),
            Err(_given_up) => None,
        },
    };
    match sent {
        Some(Ok(()) | Err(PumpError::Reset(_) | PumpError::Gone)) => {}
        Some(Err(PumpError::Body(_))) | None => upload.reset(Reason::CANCEL),
    }
    // The stream first, then its place.
    drop(upload);
    drop(loan);
}

/// How long an upload may go on after its response has ended.
const UPLOAD_LINGER: Duration = Duration::from_mins(1);
