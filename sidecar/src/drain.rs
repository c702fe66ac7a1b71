//! Ends the proxy without breaking what its application still does.
//!
//! A pod's containers are told to end together, and an application may need calls to end well. So a first SIGTERM only
//! makes the proxy linger: new connections and calls are served as before, until the application is gone or the drain
//! time is over. Only then are connections told to finish. [`lifecycle`] decides, [`run`] acts on it, and [`Draining`]
//! is what connections hold.

use std::task::{Context, Poll};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

pub use self::lifecycle::{Lifecycle, Phase, Settings};
pub use self::signals::Signals;

pub mod lifecycle;
mod signals;

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

/// What the lifecycle listens to.
#[derive(Debug)]
pub struct Sources<T, A, C> {
    /// Polled for the next request to end, such as [`Signals::poll_next`].
    pub terminations: T,
    /// Ready when the application is known to have ended. For ever pending where nobody can know: in a pod.
    pub application_ended: A,
    /// Answers how many of the application's connections are open.
    pub connections_open: C,
}

/// Runs the lifecycle to its end, and starts `drain` when it is time for connections to finish.
///
/// When it returns, whatever is still open may be ended: drop the listeners, flush the spans, exit.
pub async fn run<T, A, C>(mut lifecycle: Lifecycle, drain: &Drain, sources: Sources<T, A, C>)
where
    T: FnMut(&mut Context<'_>) -> Poll<()>,
    A: Future<Output = ()>,
    C: Fn() -> usize,
{
    let Sources {
        mut terminations,
        application_ended,
        connections_open,
    } = sources;
    let mut application_ended = std::pin::pin!(application_ended);
    let mut application_is_there = true;
    loop {
        let before = lifecycle.phase();
        lifecycle.observe(connections_open(), Instant::now());
        announce(before, lifecycle.phase(), drain);
        if lifecycle.phase() == Phase::Ended {
            return;
        }
        let before = lifecycle.phase();
        let next_look = lifecycle.next_look(Instant::now());
        tokio::select! {
            // Requests to end first: a second one must never wait.
            biased;
            () = std::future::poll_fn(&mut terminations) => lifecycle.terminate(Instant::now()),
            () = application_ended.as_mut(), if application_is_there => {
                application_is_there = false;
                lifecycle.application_ended(Instant::now());
            }
            () = until(next_look) => {}
        }
        announce(before, lifecycle.phase(), drain);
    }
}

async fn until(next_look: Option<Instant>) {
    match next_look {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn announce(before: Phase, after: Phase, drain: &Drain) {
    if before == after {
        return;
    }
    match after {
        Phase::Serving => {}
        Phase::Lingering => tracing::info!("told to end: serving until the application is gone"),
        Phase::Finishing => tracing::info!("no new connections; open calls may finish"),
        Phase::Ended => tracing::info!("ending"),
    }
    if matches!(after, Phase::Finishing | Phase::Ended) {
        drain.start();
    }
}

#[cfg(test)]
mod tests;
