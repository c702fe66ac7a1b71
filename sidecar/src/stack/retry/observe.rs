//! What observe mode does about a retry: decide, count, write down, and send nothing.
//!
//! The decision is the enforced one, about the first attempt, which is the only one. It is paid for by a
//! [budget of its own](Destination::observed_budget).

use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use super::{Attempts, ResponseBody, reason_of};
use crate::destination::Destination;
use crate::error::CallError;
use crate::overload::classify::{self, Answer, Reason, RetryDecision};
use crate::telemetry::record::Verdict;

impl Attempts {
    /// Pays into the observed budget, as the whole call's success would into the real one. A gRPC failure that comes
    /// after the head is not known yet, and pays too.
    pub(super) fn observe_success(&self, result: &Result<Response<ResponseBody>, CallError>) {
        if let Ok(response) = result {
            let answer = Answer::without_pushback(response.status(), response.headers());
            if classify::deposits(&classify::End::Answered(answer)) {
                self.call
                    .destination
                    .observed_budget
                    .deposit(Instant::now());
            }
        }
    }

    /// Decides as if the rule were enforced, and writes it down instead of acting.
    pub(super) fn observe(
        &self,
        end: classify::End<'_>,
        time_left: Option<Duration>,
        now: Instant,
    ) {
        let spent = now - self.call.begun;
        let own = self.call.rule.deadline.map(|own| own.saturating_sub(spent));
        let time_left = time_left.into_iter().chain(own).min();
        if time_left.is_some_and(|left| left.is_zero()) {
            // Enforced, its deadline would have ended it: no retry would have been asked for.
            return;
        }
        let Destination {
            counters,
            observed_budget,
            ..
        } = &*self.call.destination;
        let refusal = match classify::decide(&self.facts(end, time_left, now)) {
            RetryDecision::No(Reason::NotRetryable) => return,
            RetryDecision::No(reason) => Some(reason),
            RetryDecision::Retry { cost: 0, .. } => None,
            RetryDecision::Retry { cost, .. } => {
                let withdrawn = observed_budget.withdraw(cost, now);
                withdrawn.err().map(|_| Reason::Budget)
            }
        };
        let (verdict, reason) = if let Some(reason) = refusal {
            counters.would_have_refused_a_retry();
            (Verdict::WouldRefuseRetry, reason.as_str())
        } else {
            counters.would_have_retried();
            (Verdict::WouldRetry, reason_of(&end))
        };
        self.call.decided(verdict, reason, self.inputs(now));
    }
}
