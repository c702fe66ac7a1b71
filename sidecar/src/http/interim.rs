//! Interim (1xx) responses on their way back to the application.
//!
//! A call is answered once, so the interim responses before it (RFC 9110 §15.2: a proxy must forward them) travel
//! beside the answer: whoever awaits the answer opens a [`scope`] around it, and whoever talks to the upstream in the
//! same task calls [`pass`]. Without a scope they are dropped. Costs nothing while there are none.

use std::cell::RefCell;
use std::future::Future;

use http::Response;
use tokio::task::futures::TaskLocalFuture;

/// Interim responses that wait to be sent to the application.
#[derive(Debug, Default)]
pub struct Interim {
    waiting: Vec<Response<()>>,
    passed: usize,
}

tokio::task_local! {
    static INTERIM: RefCell<Interim>;
}

/// Runs `answer` with a place for its interim responses, to be [`taken`](take) while it is pending.
pub fn scope<F: Future>(answer: F) -> Scope<F> {
    INTERIM.scope(RefCell::default(), answer)
}

/// A future with a place for interim responses.
pub type Scope<F> = TaskLocalFuture<RefCell<Interim>, F>;

/// Passes one on. Called from inside a [`scope`]; over [`PASSED_MAX`] a call, the rest is dropped.
pub fn pass(response: Response<()>) {
    let _outside_of_a_scope_nobody_listens = INTERIM.try_with(|interim| {
        let mut interim = interim.borrow_mut();
        if interim.passed < PASSED_MAX {
            interim.passed += 1;
            interim.waiting.push(response);
        }
    });
}

/// Takes what waits to be sent. Called from inside a [`scope`].
#[must_use]
pub fn take() -> Vec<Response<()>> {
    INTERIM
        .try_with(|interim| std::mem::take(&mut interim.borrow_mut().waiting))
        .unwrap_or_default()
}

/// Most interim responses passed on for one call: a bound on what a broken upstream can make us send.
pub const PASSED_MAX: usize = 32;
