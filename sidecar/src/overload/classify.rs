//! Decides whether an attempt is repeated, with the reason.
//!
//! A pure function of the facts. A retry needs, all at once: an outcome that the policy names, proof that the request was
//! not processed or a method that may be repeated, a body that can be sent again, attempts and time left, a destination
//! that keeps up, and no word of the server against it. The budget is asked last, by the caller: only a retry that
//! nothing else forbids may cost something.

pub mod answer;
mod sample;

use std::time::Duration;

use control_api::policy::{self, Methods};
use http::{Method, Response};

use crate::error::UpstreamError;
pub use answer::{Answer, Pushback};
pub use sample::{deposits, endpoint_failed, sample};

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// With a response head.
    Answered(Answer),
    /// Without one.
    Failed(&'a UpstreamError),
}

impl<'a> End<'a> {
    /// How an attempt ended, for its sample and its endpoint's breaker: what the server says about retries is not read.
    pub fn of<B>(result: &'a Result<Response<B>, UpstreamError>) -> Self {
        match result {
            Ok(response) => Self::Answered(Answer::without_pushback(
                response.status(),
                response.headers(),
            )),
            Err(error) => Self::Failed(error),
        }
    }
}

/// What a retry is decided by.
#[derive(Debug, Clone, Copy)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "facts: each is true or false on its own"
)]
pub struct RetryFacts<'a> {
    /// How the attempt ended.
    pub end: End<'a>,
    /// The rule's retry part.
    pub rule: &'a policy::Retry,
    /// The request's method.
    pub method: &'a Method,
    /// Whether the request carries an `Idempotency-Key`.
    pub has_idempotency_key: bool,
    /// Whether the request body can be sent again, byte for byte.
    pub body_is_replayable: bool,
    /// Number of the attempt that ended, from 1.
    pub attempt: u32,
    /// Whether the request itself arrived as a retry of somebody above.
    pub arrived_as_retry: bool,
    /// Whether this call already had its free retry.
    pub free_retry_used: bool,
    /// What is left of the call's deadline. None: it has none.
    pub time_left: Option<Duration>,
    /// The destination's median latency, if known.
    pub p50: Option<Duration>,
    /// The backoff drawn for this retry.
    pub backoff: Duration,
    /// Whether the destination's queue is standing.
    pub destination_is_overloaded: bool,
    /// Whether a response head was already passed on to the application.
    pub response_started: bool,
}

/// Whether an attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Yes, if the budget has `cost`.
    Retry {
        /// Whole retries to withdraw before anything else is done; 0 is the call's free retry.
        cost: u32,
        /// How long to wait first: the server's word plus the backoff.
        delay: Duration,
    },
    /// No.
    No(Reason),
}

/// Why an attempt is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing went wrong, or nothing that a retry could mend.
    NotRetryable,
    /// The policy does not name this outcome.
    Condition,
    /// The first try may have been processed, and the method may not be repeated.
    Method,
    /// The policy's attempts are used up.
    Attempts,
    /// The request body cannot be sent again.
    Body,
    /// The application already has the response's head.
    ResponseStarted,
    /// The server said no, or asked for more patience than is sensible.
    Pushback,
    /// Somebody below already retried for this call.
    ExhaustedBelow,
    /// The deadline would pass before the retry could be answered.
    Deadline,
    /// The destination's queue is standing.
    Overloaded,
    /// The budget is exhausted.
    Budget,
}

impl Reason {
    /// All of them, for metrics.
    pub const ALL: [Self; 11] = [
        Self::NotRetryable,
        Self::Condition,
        Self::Method,
        Self::Attempts,
        Self::Body,
        Self::ResponseStarted,
        Self::Pushback,
        Self::ExhaustedBelow,
        Self::Deadline,
        Self::Overloaded,
        Self::Budget,
    ];

    /// The word in metrics, spans and decisions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::Condition => "condition",
            Self::Method => "method",
            Self::Attempts => "attempts",
            Self::Body => "body",
            Self::ResponseStarted => "response_started",
            Self::Pushback => "pushback",
            Self::ExhaustedBelow => "exhausted_below",
            Self::Deadline => "deadline",
            Self::Overloaded => "overloaded",
            Self::Budget => "budget",
        }
    }
}

/// Decides whether an attempt is repeated.
///
/// The first reason against it, in this order, is the answer; those that lie in the call come before those that lie in
/// the moment.
#[must_use]
pub fn decide(facts: &RetryFacts<'_>) -> RetryDecision {
    match object(facts) {
        Some(reason) => RetryDecision::No(reason),
        None => RetryDecision::Retry {
            cost: cost(facts),
            delay: delay(facts),
        },
    }
}

fn object(facts: &RetryFacts<'_>) -> Option<Reason> {
    let proof = Proof::of(&facts.end);
    if let Err(reason) = condition(facts) {
        return Some(reason);
    }
    let server = match facts.end {
        End::Answered(answer) => answer.pushback,
        End::Failed(_) => Pushback::None,
    };
    let late = facts
        .time_left
        .is_some_and(|left| delay(facts).saturating_add(facts.p50.unwrap_or_default()) >= left);
    let objections = [
        (facts.response_started, Reason::ResponseStarted),
        (
            proof == Proof::MaybeProcessed && !may_repeat(facts),
            Reason::Method,
        ),
        (facts.attempt >= facts.rule.attempts, Reason::Attempts),
        // After the attempts: no body is kept where the policy allows only one.
        (!facts.body_is_replayable, Reason::Body),
        (server == Pushback::ExhaustedBelow, Reason::ExhaustedBelow),
        (server.forbids(), Reason::Pushback),
        (late, Reason::Deadline),
        // A connection that ended between calls says nothing about load, and the call was promised not to be lost.
        (
            facts.destination_is_overloaded && !is_immediate(facts),
            Reason::Overloaded,
        ),
    ];
    objections
        .into_iter()
        .find_map(|(holds, reason)| holds.then_some(reason))
}

/// Whether the policy names this outcome.
fn condition(facts: &RetryFacts<'_>) -> Result<(), Reason> {
    let on = &facts.rule.on;
    let named = match facts.end {
        End::Answered(answer) => match (answer.status.as_u16(), answer.grpc_status) {
            (502, _) => on.bad_gateway,
            (503, _) => on.unavailable,
            (504, _) => on.gateway_timeout,
            (200, Some(answer::GRPC_UNAVAILABLE)) => on.grpc_unavailable,
            _ => return Err(Reason::NotRetryable),
        },
        End::Failed(error) => match error {
            UpstreamError::Connect { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::NotSent { .. } => on.connect_failure,
            UpstreamError::RefusedStream { .. } | UpstreamError::GoAway { .. } => on.refused_stream,
            UpstreamError::Reset { .. } => on.reset,
            UpstreamError::AttemptTimeout { .. } => on.gateway_timeout,
            UpstreamError::Malformed { .. } | UpstreamError::RequestBody(_) => {
                return Err(Reason::NotRetryable);
            }
        },
    };
    if named {
        Ok(())
    } else {
        Err(Reason::Condition)
    }
}

/// Whether the request may be sent again although it may have been processed.
fn may_repeat(facts: &RetryFacts<'_>) -> bool {
    match &facts.rule.methods {
        Methods::Idempotent => facts.has_idempotency_key || facts.method.is_idempotent(),
        Methods::All => true,
        Methods::Only(methods) => methods.contains(facts.method),
    }
}

/// The free retry costs nothing; an attempt that used up its timeout, or a call that is itself a retry, costs two; any
/// other one.
///
/// A handshake that timed out has no free retry, although nothing was sent: it has cost the caller seconds already, and a
/// host that drops packets would cost every call as many again. One that often connects pays for the few that do not,
/// so behind a virtual address with one dead endpoint such calls are still repeated.
fn cost(facts: &RetryFacts<'_>) -> u32 {
    let (timed_out, unconnected) = match facts.end {
        End::Failed(UpstreamError::AttemptTimeout { .. }) => (true, false),
        End::Failed(UpstreamError::ConnectTimeout { .. }) => (true, true),
        End::Failed(_) | End::Answered(_) => (false, false),
    };
    let is_free = !facts.free_retry_used && !unconnected;
    match Proof::of(&facts.end) {
        Proof::NeverTaken | Proof::Refused if is_free => 0,
        Proof::NeverTaken | Proof::Refused | Proof::MaybeProcessed => {
            if timed_out || facts.arrived_as_retry {
                2
            } else {
                1
            }
        }
    }
}

fn delay(facts: &RetryFacts<'_>) -> Duration {
    let asked = match facts.end {
        End::Answered(answer) => answer.pushback.at_least(),
        End::Failed(_) => Duration::ZERO,
    };
    if is_immediate(facts) {
        asked
    } else {
        // A server may ask for longer than a clock can count.
        asked.saturating_add(facts.backoff)
    }
}

/// Whether this retry is the one that a connection's end between two calls deserves: at once, and whatever the load.
fn is_immediate(facts: &RetryFacts<'_>) -> bool {
    Proof::of(&facts.end) == Proof::NeverTaken && !facts.free_retry_used
}

/// What is known about the request's processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The connection ended before it took the request: an accident of timing, no refusal.
    NeverTaken,
    /// Refused unprocessed: no connection, or a refused stream.
    Refused,
    /// Anything else.
    MaybeProcessed,
}

impl Proof {
    fn of(end: &End<'_>) -> Self {
        match end {
            End::Failed(UpstreamError::NotSent { .. } | UpstreamError::GoAway { .. }) => {
                Self::NeverTaken
            }
            End::Failed(error) if error.is_unprocessed() => Self::Refused,
            End::Failed(_) | End::Answered(_) => Self::MaybeProcessed,
        }
    }
}

#[cfg(test)]
mod tests;
