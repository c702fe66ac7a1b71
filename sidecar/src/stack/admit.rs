//! Waits for a permit on the call's destination, or sheds the call.
//!
//! Sits inside [`Retry`](super::retry): every attempt pays its own permit, and none is held during backoff.
//! Nothing reads the request body while a call waits: the HTTP/2 window stays closed, and the application feels it.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use tokio::time::Instant;
use tower::Service;

use super::ResponseBody;
use crate::call::{Call, Outgoing};
use crate::destination::{Permit, Refusal};
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
    S: Service<Outgoing, Response = Response<Body>, Error = UpstreamError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<ResponseBody>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, CallError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Outgoing) -> Self::Future {
        Box::pin(admit(self.inner.clone(), outgoing))
    }
}

async fn admit<S>(mut inner: S, outgoing: Outgoing) -> Result<Response<ResponseBody>, CallError>
where
    S: Service<Outgoing, Response = Response<Body>, Error = UpstreamError>,
{
    let call = std::sync::Arc::clone(&outgoing.call);
    let permit = permit(&call, outgoing.attempt).await?;
    let dispatched = Instant::now();
    call.trail(|trail| {
        if let Some(attempt) = trail.attempts.last_mut() {
            attempt.dispatched = Some(dispatched - call.begun);
        }
    });
    let result = inner.call(outgoing).await;
    sample(&call, &permit, &result, dispatched);
    let response = result?;
    Ok(response.map(|body| ResponseBody::new(body).holding(permit)))
}

/// Tells the destination how the attempt went. A tunnel's response head says nothing about load.
fn sample(
    call: &Call,
    permit: &Permit,
    result: &Result<Response<Body>, UpstreamError>,
    dispatched: Instant,
) {
    if call.is_upgrade {
        return;
    }
    let end = End::of(result);
    let now = Instant::now();
    if let Some(ejection) = permit.sample(&end, now - dispatched, now) {
        call.decided(
            Verdict::Ejected,
            "consecutive_failures",
            vec![("ejection_ms", ejection.as_secs_f64() * 1e3)],
        );
    }
}

/// Waits for a permit; a retry stands one priority below its first try.
async fn permit(call: &Call, attempt: u32) -> Result<Permit, CallError> {
    let priority = if attempt > 1 {
        call.priority.lowered()
    } else {
        call.priority
    };
    let acquired = call
        .destination
        .acquire(call.endpoint, priority, call.deadline_at(), call.rule.mode)
        .await;
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
