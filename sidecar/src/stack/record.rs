//! Writes down how each call ended, whatever way it ended.
//!
//! The outermost layer: it sees what the application sees. A call that is dropped half-way is recorded as cancelled by
//! its [`Recording`]'s drop, so no call goes unseen.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Response};
use tokio::time::Instant;
use tower::Service;

use super::ResponseBody;
use crate::call::{Call, Outgoing};
use crate::error::CallError;
use crate::http::body::BodyError;
use crate::respond;
use crate::telemetry::Telemetry;
use crate::telemetry::record::{End, Outcome, is_grpc_server_error};

/// The recording layer over the rest of the stack.
#[derive(Debug, Clone)]
pub struct Record<S> {
    inner: S,
    telemetry: Telemetry,
}

impl<S> Record<S> {
    /// Records the calls of `inner` in `telemetry`.
    pub fn new(inner: S, telemetry: Telemetry) -> Self {
        Self { inner, telemetry }
    }
}

impl<S> Service<Outgoing> for Record<S>
where
    S: Service<Outgoing, Response = Response<ResponseBody>, Error = CallError>,
{
    type Response = Response<ResponseBody>;
    type Error = CallError;
    type Future = RecordFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, outgoing: Outgoing) -> Self::Future {
        let recording = Recording::begin(Arc::clone(&outgoing.call), self.telemetry.clone());
        RecordFuture {
            answer: self.inner.call(outgoing),
            recording: Some(recording),
        }
    }
}

pin_project_lite::pin_project! {
    /// A call under way. Dropping it cancels the call.
    #[derive(Debug)]
    pub struct RecordFuture<F> {
        #[pin]
        answer: F,
        recording: Option<Recording>,
    }
}

impl<F> Future for RecordFuture<F>
where
    F: Future<Output = Result<Response<ResponseBody>, CallError>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(cx));
        let Some(mut recording) = this.recording.take() else {
            return Poll::Ready(answer);
        };
        Poll::Ready(match answer {
            Ok(response) => {
                recording.head(&response);
                Ok(response.map(|body| body.recorded_by(recording)))
            }
            Err(error) => {
                recording.failed(&error);
                Err(error)
            }
        })
    }
}

/// A call's record while it is being written.
#[derive(Debug)]
pub struct Recording {
    call: Arc<Call>,
    telemetry: Telemetry,
    status: u16,
    grpc_status: Option<u16>,
    head_after: Option<Duration>,
    ended: bool,
}

impl Recording {
    fn begin(call: Arc<Call>, telemetry: Telemetry) -> Self {
        call.destination.counters.began();
        Self {
            call,
            telemetry,
            status: 0,
            grpc_status: None,
            head_after: None,
            ended: false,
        }
    }

    fn head(&mut self, response: &Response<ResponseBody>) {
        let answered = response.body().answered().unwrap_or_else(Instant::now);
        self.head_after = Some(answered - self.call.begun);
        self.status = response.status().as_u16();
        self.grpc_status = respond::grpc_status(response.headers());
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status = respond::grpc_status(trailers).or(self.grpc_status);
    }

    pub(super) fn body_ended(mut self) {
        let failed = self.status >= 500 || self.grpc_status.is_some_and(is_grpc_server_error);
        if failed {
            self.end(Outcome::Failed, "server_error");
        } else {
            self.end(Outcome::Answered, "");
        }
    }

    pub(super) fn body_failed(mut self, error: &BodyError) {
        self.end(Outcome::Failed, error.kind());
    }

    fn failed(mut self, error: &CallError) {
        let facts = respond::facts(error);
        self.status = facts.status.as_u16();
        self.head_after = Some(self.call.begun.elapsed());
        self.end(facts.outcome, facts.kind);
    }

    /// A refusal for overload is an answer, but no success that would pay for retries.
    fn deposits(&self, outcome: Outcome) -> bool {
        outcome == Outcome::Answered && self.status != TOO_MANY_REQUESTS
    }

    fn end(&mut self, outcome: Outcome, error_kind: &'static str) {
        self.ended = true;
        let now = Instant::now();
        self.call.destination.counters.ended(outcome);
        if self.deposits(outcome) && self.call.trail(|trail| trail.attempts.len() == 1) {
            self.call.destination.budget.deposit(now);
        }
        let duration = now - self.call.begun;
        let head_after = self.head_after.unwrap_or(duration);
        let end = End {
            status: self.status,
            grpc_status: self.grpc_status,
            outcome,
            error_kind,
            head_after,
            duration,
        };
        self.call.ended(&end, &self.telemetry);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Outcome::Cancelled, "cancelled");
        }
    }
}

const TOO_MANY_REQUESTS: u16 = 429;
