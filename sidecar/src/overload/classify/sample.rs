//! What an attempt's end says about its destination: its load, its share of retries, its endpoint.

use super::{End, answer};
use crate::error::UpstreamError;
use crate::overload::limiter::SampleOutcome;

/// What an attempt says about its destination's load.
///
/// An application's own errors say nothing: they are often faster than answers, and would make a failing destination look
/// like a fast one. Nor does a refusal by a weir further down: it is about another queue.
#[must_use]
pub fn sample(end: &End<'_>) -> SampleOutcome {
    match end {
        End::Answered(answer) if answer.is_refusal_of_weir => SampleOutcome::Ignore,
        End::Answered(answer) => match (answer.status.as_u16(), answer.grpc_status) {
            (429 | 503, _)
            | (200, Some(answer::GRPC_RESOURCE_EXHAUSTED | answer::GRPC_UNAVAILABLE)) => {
                SampleOutcome::Overload
            }
            (status, _) if status >= 500 => SampleOutcome::Ignore,
            (_, grpc) if grpc.is_some_and(answer::is_grpc_failure) => SampleOutcome::Ignore,
            _ => SampleOutcome::Success,
        },
        End::Failed(error) => match error {
            UpstreamError::AttemptTimeout { .. } => SampleOutcome::TimedOut,
            UpstreamError::RefusedStream { .. } => SampleOutcome::Overload,
            UpstreamError::Connect { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::NotSent { .. }
            | UpstreamError::GoAway { .. }
            | UpstreamError::Reset { .. }
            | UpstreamError::Malformed { .. }
            | UpstreamError::RequestBody(_) => SampleOutcome::Ignore,
        },
    }
}

/// Whether a first attempt's end deposits into the retry budget: the destination answered, and not with a failure of its
/// own. Deposits for failures would feed retries in an outage.
#[must_use]
pub fn deposits(end: &End<'_>) -> bool {
    sample(end) == SampleOutcome::Success
}

/// Whether an attempt's end is a failure of the endpoint itself, for its breaker. None: it says nothing either way.
#[must_use]
pub fn endpoint_failed(end: &End<'_>) -> Option<bool> {
    match end {
        End::Answered(_) => Some(false),
        End::Failed(error) => match error {
            UpstreamError::Connect { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::Reset { .. }
            | UpstreamError::AttemptTimeout { .. }
            | UpstreamError::Malformed { .. } => Some(true),
            UpstreamError::NotSent { .. }
            | UpstreamError::GoAway { .. }
            | UpstreamError::RefusedStream { .. }
            | UpstreamError::RequestBody(_) => None,
        },
    }
}
