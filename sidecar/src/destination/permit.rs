//! The right to have one attempt in flight.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Destination;
use super::admission::{Grant, WouldHave};
use super::endpoints::Pass;
use crate::error::Shed;
use crate::overload::classify::{self, End};
use crate::overload::{Sample, SampleOutcome};

/// One attempt in flight. Held until the response body ends; dropping it gives it to the next who waits.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub struct Permit {
    destination: Arc<Destination>,
    grant: Grant,
    waited: Duration,
    deadline: Option<Instant>,
    pass: Option<Pass>,
    pub(super) would_have: Option<WouldHave>,
}

impl Permit {
    pub(super) fn new(
        destination: Arc<Destination>,
        grant: Grant,
        waited: Duration,
        deadline: Option<Instant>,
        pass: Option<Pass>,
    ) -> Self {
        Self {
            destination,
            grant,
            waited,
            deadline,
            pass,
            would_have: None,
        }
    }

    /// How long it was waited for.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Whether that was longer than the queue's target.
    #[must_use]
    pub fn waited_long(&self) -> bool {
        !self.waited.is_zero() && self.waited > self.destination.admission.target()
    }

    /// Why it would have been refused, where it was given only because the mode says so.
    #[must_use]
    pub fn would_have_been_refused(&self) -> Option<Shed> {
        match self.would_have? {
            WouldHave::BeenRefused(shed) => Some(shed),
            WouldHave::Waited => None,
        }
    }

    /// Whose permit it is.
    #[must_use]
    pub fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    /// Tells what the attempt came to, `rtt` after its dispatch: to the latency sketch, the limiter and the endpoint's
    /// breaker. Answers the length of the ejection if this ejected the endpoint.
    ///
    /// To be called once, at the response head or the failure. Not for streams and upgrades: their response head says
    /// nothing about load.
    pub fn sample(&self, end: &End<'_>, rtt: Duration, now: Instant) -> Option<Duration> {
        if let End::Failed(error) = end {
            self.destination.failed(error);
        }
        let outcome = classify::sample(end);
        match outcome {
            SampleOutcome::Success => self.destination.latency.record(rtt, now),
            SampleOutcome::TimedOut => self.destination.latency.record_censored(now),
            SampleOutcome::Overload | SampleOutcome::Ignore => {}
        }
        let dispatched = now.checked_sub(rtt).unwrap_or(now);
        let sample = Sample {
            outcome,
            rtt,
            allowed: self
                .deadline
                .map(|deadline| deadline.saturating_duration_since(dispatched)),
        };
        self.destination.admission.record(&sample, self.grant, now);
        let (pass, failed) = (self.pass.as_ref()?, classify::endpoint_failed(end)?);
        self.destination.endpoints.report(pass, failed, now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.destination.admission.give_back();
        if let Some(pass) = &self.pass {
            self.destination.endpoints.leave(pass);
        }
    }
}
