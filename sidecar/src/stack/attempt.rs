//! One try: writes what only this try says into its head, and bounds its time.
//!
//! Sits inside [`Admit`](super::admit): the attempt timeout starts when the permit is there.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use control_api::policy::{AttemptTimeout, Mode};
use control_api::well_known::header;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::{Instant, Sleep};
use tower::Service;

use crate::call::{Call, Outgoing, deadline};
use crate::error::UpstreamError;
use crate::http::body::Body;
use crate::telemetry::record::Protocol;
use crate::upstream::Exchange;

/// The attempt layer over an upstream.
#[derive(Debug, Clone)]
pub struct Attempt<U> {
    upstream: U,
}

impl<U> Attempt<U> {
    /// Tries on `upstream`.
    pub fn new(upstream: U) -> Self {
        Self { upstream }
    }
}

impl<U> Service<Outgoing> for Attempt<U>
where
    U: Service<Exchange, Response = Response<Body>, Error = UpstreamError>,
{
    type Response = Response<Body>;
    type Error = UpstreamError;
    type Future = AttemptFuture<U::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Outgoing) -> Self::Future {
        let Outgoing {
            call,
            mut head,
            body,
            attempt,
            span_id,
            began: now,
        } = outgoing;
        call.trace.write(&mut head.headers, &span_id);
        write_attempt(&mut head.headers, &call, attempt);
        if let Some(at) = call.deadline_at() {
            deadline::write(
                &mut head.headers,
                &call.propagated,
                at.saturating_duration_since(now),
            );
        }
        let timeout = timeout(&call, attempt, now).map(|after| Timeout {
            after,
            timer: Box::pin(tokio::time::sleep(after)),
        });
        let exchange = self
            .upstream
            .call((call.endpoint, Request::from_parts(head, body)));
        AttemptFuture {
            exchange,
            timeout,
            call,
        }
    }
}

pin_project_lite::pin_project! {
    /// An attempt under way. Dropping it cancels the exchange.
    #[derive(Debug)]
    pub struct AttemptFuture<F> {
        #[pin]
        exchange: F,
        timeout: Option<Timeout>,
        call: Arc<Call>,
    }
}

#[derive(Debug)]
struct Timeout {
    after: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<F> Future for AttemptFuture<F>
where
    F: Future<Output = Result<Response<Body>, UpstreamError>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.exchange.poll(cx) {
            return Poll::Ready(result);
        }
        let Some(Timeout { after, timer }) = this.timeout else {
            return Poll::Pending;
        };
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(UpstreamError::AttemptTimeout {
            addr: this.call.endpoint,
            after: *after,
        }))
    }
}

/// How long this attempt may take: its own timeout, and never more than what is left of the deadline.
///
/// The last attempt has only the deadline: cutting it short would turn a slow answer into none.
fn timeout(call: &Call, attempt: u32, now: Instant) -> Option<Duration> {
    let left = call
        .deadline_at()
        .map(|at| at.saturating_duration_since(now));
    let is_last = attempt >= call.rule.retry.attempts;
    let own = match (call.rule.mode, call.rule.attempt_timeout) {
        (Mode::Observe | Mode::Off, _) | (Mode::Enforce, AttemptTimeout::None) => None,
        (Mode::Enforce, AttemptTimeout::After(after)) => Some(after),
        (Mode::Enforce, AttemptTimeout::Adaptive) if is_last => None,
        (Mode::Enforce, AttemptTimeout::Adaptive) => call.destination.adaptive_timeout(now),
    };
    own.into_iter().chain(left).min()
}

fn write_attempt(headers: &mut HeaderMap, call: &Call, attempt: u32) {
    let before = call.previous_attempts.saturating_add(attempt - 1);
    headers.insert(ATTEMPT, number(before.saturating_add(1)));
    if call.protocol == Protocol::Grpc && before > 0 {
        headers.insert(GRPC_PREVIOUS_RPC_ATTEMPTS, number(before));
    }
}

fn number(number: u32) -> HeaderValue {
    match number {
        1 => HeaderValue::from_static("1"),
        other => HeaderValue::from(other),
    }
}

const ATTEMPT: HeaderName = HeaderName::from_static(header::ATTEMPT);
const GRPC_PREVIOUS_RPC_ATTEMPTS: HeaderName =
    HeaderName::from_static(header::GRPC_PREVIOUS_RPC_ATTEMPTS);
