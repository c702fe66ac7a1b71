//! Ends the proxy without breaking what its application still does.
//!
//! A pod's containers are told to end together, and an application may need calls to end well. So a first SIGTERM only
//! makes the proxy linger: new connections and calls are served as before, until the application is gone or the drain
//! time is over. Only then are connections told to finish. [`lifecycle`] decides, [`run`] acts on it, and [`Draining`]
//! is what connections hold.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

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

/// A [`Draining`] for a connection that is polled often: asking again costs next to nothing.
pub struct Watch {
    draining: Draining,
    started: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Who is woken when the drain starts.
    waker: Option<Waker>,
}

impl Watch {
    /// Watches `draining`.
    #[must_use]
    pub fn new(draining: Draining) -> Self {
        let mut told = draining.clone();
        Self {
            draining,
            started: Box::pin(async move { told.started().await }),
            waker: None,
        }
    }

    /// Ready when the drain has started; then it is not to be polled again.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_known = |waker: &Waker| waker.will_wake(cx.waker());
        if self.waker.as_ref().is_some_and(is_known) && !self.draining.is_started() {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.started.as_mut().poll(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("draining", &self.draining)
            .finish_non_exhaustive()
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
