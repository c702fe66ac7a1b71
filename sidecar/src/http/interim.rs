//! Interim (1xx) responses on their way back to the application.
//!
//! A call is answered once, so the interim responses before it (RFC 9110 §15.2: a proxy must forward them) travel
//! beside the answer: whoever awaits the answer opens a [`scope`] around it (or a [`Place`] around each poll), and whoever talks to the upstream in the
//! same task calls [`pass`]. Without a scope they are dropped. Costs nothing while there are none.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

thread_local! {
    /// How many more the answer that is being polled may pass on; none where nobody takes them.
    static ROOM: Cell<usize> = const { Cell::new(0) };
    /// Passed on in this poll.
    static WAITING: RefCell<Vec<Response<()>>> = const { RefCell::new(Vec::new()) };
}

/// One call's place for interim responses.
#[derive(Debug)]
pub struct Place {
    room: usize,
}

impl Place {
    /// A call's, before its first poll.
    #[must_use]
    pub fn new() -> Self {
        Self { room: PASSED_MAX }
    }

    /// Runs one poll of the call. What it [passes](pass) on is to be [taken](take) inside.
    pub fn during<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        let outer = Outer(ROOM.replace(self.room));
        let polled = poll();
        self.room = ROOM.get();
        drop(outer);
        polled
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

pin_project! {
    /// A future with a place for interim responses.
    #[derive(Debug)]
    pub struct Scope<F> {
        place: Place,
        #[pin]
        answer: F,
    }
}

/// Runs `answer` with a place for its interim responses, to be [`taken`](take) in the same poll.
pub fn scope<F: Future>(answer: F) -> Scope<F> {
    Scope {
        place: Place::new(),
        answer,
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.place.during(|| this.answer.poll(cx))
    }
}

/// What was there around a scope's poll. Restored by drop: a poll may unwind.
struct Outer(usize);

impl Drop for Outer {
    fn drop(&mut self) {
        ROOM.set(self.0);
        // What nobody took must not reach another call.
        WAITING.with_borrow_mut(Vec::clear);
    }
}

/// Passes one on. Called from inside a [`scope`]; over [`PASSED_MAX`] a call, the rest is dropped.
pub fn pass(response: Response<()>) {
    if let Some(room) = ROOM.get().checked_sub(1) {
        ROOM.set(room);
        WAITING.with_borrow_mut(|waiting| waiting.push(response));
    }
}

/// Takes what waits to be sent. Called from inside a [`scope`], in the poll that passed it on.
#[must_use]
pub fn take() -> Vec<Response<()>> {
    WAITING.with_borrow_mut(std::mem::take)
}

/// Most interim responses passed on for one call: a bound on what a broken upstream can make us send.
pub const PASSED_MAX: usize = 32;

/// Most interim responses endured before a final one. A server that says `102 Processing` every few seconds has an hour;
/// one without end would keep weir reading for ever, for nobody.
pub const SEEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_passed_is_taken_in_its_own_scope() {
        let taken = scope(async {
            pass(Response::new(()));
            take().len()
        });
        assert_eq!(taken.await, 1);
        assert!(take().is_empty());
    }

    #[tokio::test]
    async fn without_a_scope_or_a_taker_they_are_dropped() {
        pass(Response::new(()));
        scope(async { pass(Response::new(())) }).await;
        assert_eq!(scope(async { take().len() }).await, 0);
    }

    #[tokio::test]
    async fn a_call_passes_on_no_more_than_its_bound() {
        let taken = scope(async {
            let mut taken = 0;
            for _ in 0..PASSED_MAX {
                pass(Response::new(()));
                pass(Response::new(()));
                taken += take().len();
                tokio::task::yield_now().await;
            }
            taken
        });
        assert_eq!(taken.await, PASSED_MAX);
    }
}
