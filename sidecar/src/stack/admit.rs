//! Waits for a permit on the call's destination, or sheds the call.
//!
//! Sits inside [`Retry`](super::retry): every attempt pays its own permit, and none is held during backoff.
//! Nothing reads the request body while a call waits: the HTTP/2 window stays closed, and the application feels it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use tokio::time::Instant;
use tower::Service;

use super::ResponseBody;
use crate::call::{Call, Outgoing};
use crate::destination::{Acquire, Permit, Refusal};
use crate::error::{CallError, UpstreamError};
use crate::http::body::Body;
use crate::overload::classify::End;
use crate::telemetry::record::Verdict;

/// The admission layer over an attempt.
#[derive(Debug, Clone)]
pub struct Admit<S> {
    inner: S,
}

impl<S> Admit<S> {
    /// Admits to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Outgoing> for Admit<S>
where
    S: Service<Outgoing, Response = Response<Body>, Error = UpstreamError> + Clone,
{
    type Response = Response<ResponseBody>;
    type Error = CallError;
    type Future = AdmitFuture<S, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Outgoing) -> Self::Future {
        AdmitFuture {
            call: Arc::clone(&outgoing.call),
            state: State::Waiting {
                acquire: acquire(&outgoing.call, outgoing.attempt),
                inner: self.inner.clone(),
                outgoing: Some(outgoing),
            },
        }
    }
}

pin_project_lite::pin_project! {
    /// An attempt that waits for its permit, or has it. Dropping it gives up the place or the permit.
    ///
    /// Written by hand: a boxed future an attempt would be one more large allocation a call.
    #[derive(Debug)]
    pub struct AdmitFuture<S, F> {
        call: Arc<Call>,
        #[pin]
        state: State<S, F>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<S, F> {
        Waiting {
            acquire: Acquire,
            inner: S,
            outgoing: Option<Outgoing>,
        },
        Attempting {
            #[pin]
            attempt: F,
            permit: Option<Permit>,
            dispatched: Instant,
        },
    }
}

impl<S> Future for AdmitFuture<S, S::Future>
where
    S: Service<Outgoing, Response = Response<Body>, Error = UpstreamError>,
{
    type Output = Result<Response<ResponseBody>, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Waiting {
                    acquire,
                    inner,
                    outgoing,
                } => {
                    let permit = judged(this.call, ready!(Pin::new(acquire).poll(cx)))?;
                    let Some(mut outgoing) = outgoing.take() else {
                        return Poll::Pending;
                    };
                    if !permit.waited().is_zero() {
                        outgoing.began = Instant::now();
                    }
                    let dispatched = outgoing.began;
                    this.call.trail(|trail| {
                        if let Some(attempt) = trail.attempts.last_mut() {
                            attempt.dispatched = Some(dispatched - this.call.begun);
                        }
                    });
                    let attempt = inner.call(outgoing);
                    // Waiting => Attempting
                    this.state.set(State::Attempting {
                        attempt,
                        permit: Some(permit),
                        dispatched,
                    });
                }
                StateProjection::Attempting {
                    attempt,
                    permit,
                    dispatched,
                } => {
                    let result = ready!(attempt.poll(cx));
                    let Some(permit) = permit.take() else {
                        return Poll::Pending;
                    };
                    let now = Instant::now();
                    sample(this.call, &permit, &result, *dispatched, now);
                    return Poll::Ready(Ok(
                        result?.map(|body| ResponseBody::answered_at(body, now).holding(permit))
                    ));
                }
            }
        }
    }
}

/// Tells the destination how the attempt went. A tunnel's response head says nothing about load.
fn sample(
    call: &Call,
    permit: &Permit,
    result: &Result<Response<Body>, UpstreamError>,
    dispatched: Instant,
    now: Instant,
) {
    if call.is_upgrade {
        return;
    }
    let end = End::of(result);
    if let Some(ejection) = permit.sample(&end, now - dispatched, now) {
        call.decided(
            Verdict::Ejected,
            "consecutive_failures",
            vec![("ejection_ms", ejection.as_secs_f64() * 1e3)],
        );
    }
}

/// Asks for a permit; a retry stands one priority below its first try, and is under way already.
fn acquire(call: &Call, attempt: u32) -> Acquire {
    let ask = |priority| {
        call.destination
            .acquire(call.endpoint, priority, call.deadline_at(), call.rule.mode)
    };
    if attempt > 1 {
        ask(call.priority.lowered()).going_on()
    } else {
        ask(call.priority)
    }
}

/// Writes down what the admission decided.
fn judged(call: &Call, acquired: Result<Permit, Refusal>) -> Result<Permit, CallError> {
    match acquired {
        Ok(permit) => {
            if permit.waited_long() {
                let waited_ms = permit.waited().as_secs_f64() * 1e3;
                call.decided(
                    Verdict::Queued,
                    "over_target",
                    vec![("waited_ms", waited_ms)],
                );
            }
            if let Some(shed) = permit.would_have_been_refused() {
                let admission = &call.destination.admission;
                let inputs = vec![
                    ("in_flight", f64::from(admission.in_flight())),
                    ("limit", f64::from(admission.limit())),
                ];
                call.decided(Verdict::WouldShed, shed.reason(), inputs);
            }
            Ok(permit)
        }
        Err(Refusal {
            shed,
            retry_after,
            inputs,
        }) => {
            call.decided(Verdict::Shed, shed.reason(), inputs.to_vec());
            Err(CallError::Shed { shed, retry_after })
        }
    }
}
