//! Tells every connection that the proxy is about to end.

use tokio::sync::watch;

/// The side that starts the drain.
#[derive(Debug)]
pub struct Drain(watch::Sender<bool>);

/// The side that is told.
#[derive(Debug, Clone)]
pub struct Draining(watch::Receiver<bool>);

/// A new pair.
#[must_use]
pub fn channel() -> (Drain, Draining) {
    let (sender, receiver) = watch::channel(false);
    (Drain(sender), Draining(receiver))
}

impl Drain {
    /// Starts the drain; it cannot be taken back.
    pub fn start(&self) {
        self.0.send_replace(true);
    }
}

impl Draining {
    /// Whether the drain has started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the drain's start; for ever when it never comes. Cancel-safe.
    pub async fn started(&mut self) {
        if self.0.wait_for(|started| *started).await.is_err() {
            // The proxy is gone without a drain: its connections end with their runtime.
            std::future::pending::<()>().await;
        }
    }
}
