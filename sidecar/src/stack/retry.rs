//! Sends a call again when that is safe, worth it, and within the budget.
//!
//! Sits outside [`Admit`](super::admit): every attempt pays its own permit, and none is held during backoff. Whether an
//! attempt is repeated is decided by the pure [`classify::decide`]; the budget is asked last, before the backoff, so
//! that calls that fail together cannot all pass.
//!
//! In observe mode the same is decided, counted and written down about the first attempt, against a
//! [budget of its own](crate::destination::Destination::observed_budget), and nothing is sent again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use control_api::policy::Mode;
use http::Response;
use http::request::Parts;
use http_body::Body as _;
use tokio::time::{Instant, Sleep};
use tower::Service;

use super::ResponseBody;
use crate::call::{Call, Outgoing, trace};
use crate::destination::Destination;
use crate::error::{CallError, UpstreamError};
use crate::http::body::Body;
use crate::http::replay::{ByteBudget, Replayable};
use crate::overload::backoff::Backoff;
use crate::overload::classify::{self, Answer, Reason, RetryDecision, RetryFacts};
use crate::respond;
use crate::telemetry::record::{AttemptEnd, AttemptRecord, SpanId, Verdict};

mod observe;

/// The retry layer over admission.
#[derive(Debug, Clone)]
pub struct Retry<S> {
    inner: S,
    kept_bytes: Arc<ByteBudget>,
}

impl<S> Retry<S> {
    /// Retries on `inner`; request bodies are kept within `kept_bytes`.
    pub fn new(inner: S, kept_bytes: Arc<ByteBudget>) -> Self {
        Self { inner, kept_bytes }
    }
}

impl<S> Service<Outgoing> for Retry<S>
where
    S: Service<Outgoing, Response = Response<ResponseBody>, Error = CallError> + Clone,
{
    type Response = Response<ResponseBody>;
    type Error = CallError;
    type Future = RetryFuture<S, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Outgoing) -> Self::Future {
        let Outgoing {
            call, head, body, ..
        } = outgoing;
        let attempts = Attempts {
            source: Source::new(&call, head, body, &self.kept_bytes),
            call,
            attempt: 0,
            backoff: Duration::ZERO,
            free_retry_used: false,
        };
        RetryFuture {
            inner: self.inner.clone(),
            attempts,
            state: State::Next,
        }
    }
}

pin_project_lite::pin_project! {
    /// A call and its attempts, one after the other. Dropping it cancels the one under way.
    ///
    /// Written by hand: a boxed future a call would be one more large allocation.
    #[derive(Debug)]
    pub struct RetryFuture<S, F> {
        inner: S,
        attempts: Attempts,
        #[pin]
        state: State<F>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Next,
        Attempting {
            #[pin]
            attempt: F,
        },
        BackingOff {
            delay: Pin<Box<Sleep>>,
        },
    }
}

impl<S> Future for RetryFuture<S, S::Future>
where
    S: Service<Outgoing, Response = Response<ResponseBody>, Error = CallError>,
{
    type Output = Result<Response<ResponseBody>, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Next => match this.attempts.next() {
                    Some(outgoing) => {
                        let attempt = this.inner.call(outgoing);
                        // Next => Attempting
                        this.state.set(State::Attempting { attempt });
                    }
                    // Not reached: `judge` says Again only while the source can be sent again.
                    None => return Poll::Ready(Err(this.attempts.deadline_exceeded())),
                },
                StateProjection::Attempting { attempt } => {
                    let result = ready!(attempt.poll(cx));
                    this.attempts.end_record(&result);
                    match this.attempts.judge(&result) {
                        Judgement::Over => return Poll::Ready(result),
                        Judgement::Refused(reason) => {
                            return Poll::Ready(refused(result, reason));
                        }
                        Judgement::DeadlinePassed => {
                            return Poll::Ready(Err(this.attempts.deadline_exceeded()));
                        }
                        Judgement::Again(delay) => {
                            if let Ok(response) = result {
                                response.into_body().discard_arrived(cx);
                            }
                            this.attempts.backoff = delay;
                            // Attempting => Next | BackingOff
                            this.state.set(if delay.is_zero() {
                                State::Next
                            } else {
                                let delay = Box::pin(tokio::time::sleep(delay));
                                State::BackingOff { delay }
                            });
                        }
                    }
                }
                StateProjection::BackingOff { delay } => {
                    ready!(delay.as_mut().poll(cx));
                    // BackingOff => Next
                    this.state.set(State::Next);
                }
            }
        }
    }
}

/// The attempts of one call.
#[derive(Debug)]
struct Attempts {
    call: Arc<Call>,
    source: Source,
    attempt: u32,
    backoff: Duration,
    free_retry_used: bool,
}

impl Attempts {
    /// The next attempt's request, its record begun. None: it cannot be sent again.
    fn next(&mut self) -> Option<Outgoing> {
        let (head, body) = self.source.next()?;
        self.attempt += 1;
        let span_id = trace::random_span_id();
        // The first try asks in the poll in which the call began.
        let asked = match self.attempt {
            1 => self.call.begun,
            _ => Instant::now(),
        };
        self.begin_record(span_id, asked - self.call.begun);
        Some(Outgoing {
            call: Arc::clone(&self.call),
            head,
            body,
            attempt: self.attempt,
            span_id,
            began: asked,
        })
    }

    fn deadline_exceeded(&self) -> CallError {
        CallError::DeadlineExceeded {
            deadline: self.call.deadline.unwrap_or_default(),
        }
    }

    fn end_record(&self, result: &Result<Response<ResponseBody>, CallError>) {
        let answered = result
            .as_ref()
            .ok()
            .and_then(|response| response.body().answered());
        let ended = answered.unwrap_or_else(Instant::now) - self.call.begun;
        let end = end_of(result);
        self.call.trail(|trail| {
            if let Some(attempt) = trail.attempts.last_mut() {
                (attempt.end, attempt.ended) = (end, ended);
            }
        });
    }

    /// An attempt is recorded as cancelled until it ends: a call may be dropped while it is under way.
    fn begin_record(&self, span_id: SpanId, asked: Duration) {
        let (backoff, end) = (self.backoff, AttemptEnd::Cancelled);
        let record = AttemptRecord {
            span_id,
            asked,
            dispatched: None,
            ended: asked,
            backoff,
            end,
        };
        self.call.trail(|trail| trail.attempts.push(record));
    }

    fn judge(&mut self, result: &Result<Response<ResponseBody>, CallError>) -> Judgement {
        let mode = self.call.rule.mode;
        if mode == Mode::Observe {
            self.observe_success(result);
        }
        let end = match result {
            Ok(response) if is_final(response) => return Judgement::Over,
            Ok(response) => classify::End::Answered(Answer::of(
                response.status(),
                response.headers(),
                SystemTime::now(),
            )),
            Err(CallError::Upstream(error)) => classify::End::Failed(error),
            Err(
                CallError::Shed { .. }
                | CallError::DeadlineExceeded { .. }
                | CallError::Exhausted(_),
            ) => return Judgement::Over,
        };
        let now = Instant::now();
        let time_left = self
            .call
            .deadline_at()
            .map(|at| at.saturating_duration_since(now));
        if time_left.is_some_and(|left| left.is_zero()) && matches!(end, classify::End::Failed(_)) {
            self.call
                .decided(Verdict::TimedOut, "deadline", self.inputs(now));
            return Judgement::DeadlinePassed;
        }
        if let classify::End::Failed(UpstreamError::AttemptTimeout { .. }) = end {
            self.call
                .decided(Verdict::TimedOut, "attempt_timeout", self.inputs(now));
        }
        match mode {
            Mode::Enforce => {}
            Mode::Observe => {
                self.observe(end, time_left, now);
                return Judgement::Over;
            }
            Mode::Off => return Judgement::Over,
        }
        match classify::decide(&self.facts(end, time_left, now)) {
            RetryDecision::No(Reason::NotRetryable) => Judgement::Over,
            RetryDecision::No(reason) => self.refuse(reason, now),
            RetryDecision::Retry { cost, delay } => self.spend(cost, delay, &end, now),
        }
    }

    fn facts<'a>(
        &'a self,
        end: classify::End<'a>,
        time_left: Option<Duration>,
        now: Instant,
    ) -> RetryFacts<'a> {
        let call = &*self.call;
        RetryFacts {
            end,
            rule: &call.rule.retry,
            method: &call.method,
            has_idempotency_key: call.has_idempotency_key,
            body_is_replayable: self.source.can_repeat(),
            attempt: self.attempt,
            arrived_as_retry: call.previous_attempts > 0,
            free_retry_used: self.free_retry_used,
            time_left,
            p50: call.destination.typical_latency(now),
            backoff: fastrand_backoff(call, self.attempt),
            destination_is_overloaded: call.destination.is_overloaded(now),
            response_started: false,
        }
    }

    fn spend(
        &mut self,
        cost: u32,
        delay: Duration,
        end: &classify::End<'_>,
        now: Instant,
    ) -> Judgement {
        if cost > 0 && self.call.destination.budget.withdraw(cost, now).is_err() {
            return self.refuse(Reason::Budget, now);
        }
        self.free_retry_used |= cost == 0;
        self.call.destination.counters.retried();
        let mut inputs = self.inputs(now);
        inputs.extend([
            ("cost", f64::from(cost)),
            ("delay_ms", delay.as_secs_f64() * 1e3),
        ]);
        self.call.decided(Verdict::Retried, reason_of(end), inputs);
        Judgement::Again(delay)
    }

    fn refuse(&self, reason: Reason, now: Instant) -> Judgement {
        self.call
            .decided(Verdict::RetryRefused, reason.as_str(), self.inputs(now));
        Judgement::Refused(reason)
    }

    fn inputs(&self, now: Instant) -> Vec<(&'static str, f64)> {
        let Destination {
            budget,
            observed_budget,
            ..
        } = &*self.call.destination;
        let budget = match self.call.rule.mode {
            Mode::Observe => observed_budget,
            Mode::Enforce | Mode::Off => budget,
        };
        let balance = f64::from(budget.balance_milli(now)) / 1e3;
        vec![
            ("attempt", f64::from(self.attempt)),
            ("budget_balance", balance),
        ]
    }
}

/// What follows from an attempt's end.
enum Judgement {
    Over,
    Refused(Reason),
    DeadlinePassed,
    Again(Duration),
}

/// Where each attempt's request comes from.
#[derive(Debug)]
enum Source {
    /// It can be sent only once: the policy allows no second try.
    Once(Option<Box<(Parts, Body)>>),
    /// Without a body, as often as is wanted.
    Bodiless(Parts),
    /// With a body, as often as is wanted while it is kept whole; where it is only observed, once.
    Kept(Parts, Replayable),
}

impl Source {
    fn new(call: &Call, head: Parts, body: Body, kept_bytes: &Arc<ByteBudget>) -> Self {
        let retry = &call.rule.retry;
        // A tunnel's bytes are not a body that could be sent again.
        let may_repeat = call.rule.mode != Mode::Off && retry.attempts > 1 && !call.is_upgrade;
        if !may_repeat {
            return Self::Once(Some(Box::new((head, body))));
        }
        if body.is_end_stream() {
            return Self::Bodiless(head);
        }
        let body = if call.is_enforced() {
            Replayable::new(body, retry.body_bytes_max, Arc::clone(kept_bytes))
        } else {
            Replayable::measured(body, retry.body_bytes_max)
        };
        Self::Kept(head, body)
    }

    fn next(&mut self) -> Option<(Parts, Body)> {
        match self {
            Self::Once(request) => request.take().map(|request| *request),
            Self::Bodiless(head) => Some((head.clone(), Body::Empty)),
            Self::Kept(head, body) => Some((head.clone(), body.body())),
        }
    }

    fn can_repeat(&self) -> bool {
        match self {
            Self::Once(_) => false,
            Self::Bodiless(_) => true,
            Self::Kept(_, body) => body.is_replayable(),
        }
    }
}

/// Whether a response needs no judgement: the common case, decided without reading its headers.
fn is_final(response: &Response<ResponseBody>) -> bool {
    let status = response.status().as_u16();
    let is_trailers_only = status == 200 && http_body::Body::is_end_stream(response.body());
    status < 500 && !is_trailers_only
}

/// A failure whose retry was refused. Where the budget refused it, nobody above shall retry either.
fn refused(
    result: Result<Response<ResponseBody>, CallError>,
    reason: Reason,
) -> Result<Response<ResponseBody>, CallError> {
    if reason != Reason::Budget {
        return result;
    }
    match result {
        Ok(mut response) => {
            respond::mark_exhausted(&mut response);
            Ok(response)
        }
        Err(CallError::Upstream(error)) => Err(CallError::Exhausted(error)),
        Err(error) => Err(error),
    }
}

fn end_of(result: &Result<Response<ResponseBody>, CallError>) -> AttemptEnd {
    match result {
        Ok(response) => AttemptEnd::Response {
            status: response.status().as_u16(),
            grpc_status: respond::grpc_status(response.headers()),
        },
        Err(CallError::Upstream(error) | CallError::Exhausted(error)) => {
            AttemptEnd::Failed(error.kind())
        }
        Err(CallError::Shed { shed, .. }) => AttemptEnd::Shed(*shed),
        Err(CallError::DeadlineExceeded { .. }) => AttemptEnd::Failed("deadline_exceeded"),
    }
}

fn reason_of(end: &classify::End<'_>) -> &'static str {
    match end {
        classify::End::Failed(error) => error.kind(),
        classify::End::Answered(answer) => match answer.status.as_u16() {
            502 => "status_502",
            503 => "status_503",
            504 => "status_504",
            _ => "grpc_unavailable",
        },
    }
}

fn fastrand_backoff(call: &Call, attempt: u32) -> Duration {
    Backoff::of(&call.rule.retry).draw(attempt, &mut fastrand::Rng::new())
}
