//! What became of the calls.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Plan;
use crate::client::Outcome;

/// Counts and latencies.
pub(crate) struct Results {
    in_time: Duration,
    lasted: Duration,
    offered: u64,
    answered_in_time: u64,
    outcomes: BTreeMap<String, u64>,
    shed: BTreeMap<String, u64>,
    /// Microseconds of calls that were answered with 2xx.
    latencies: Vec<u32>,
    /// Microseconds of calls that were refused by weir.
    refusals: Vec<u32>,
}

impl Results {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            in_time: Duration::from_secs_f64(plan.in_time_ms / 1000.0),
            lasted: Duration::ZERO,
            offered: 0,
            answered_in_time: 0,
            outcomes: BTreeMap::new(),
            shed: BTreeMap::new(),
            latencies: Vec::new(),
            refusals: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, counted: bool, took: Duration, outcome: &Outcome) {
        if !counted {
            return;
        }
        self.offered += 1;
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let name = match outcome {
            Outcome::Answered(status, shed) => {
                if let Some(reason) = shed {
                    *self.shed.entry(reason.clone()).or_default() += 1;
                    self.refusals.push(micros);
                } else if (200..300).contains(status) {
                    self.latencies.push(micros);
                    self.answered_in_time += u64::from(took <= self.in_time);
                }
                status.to_string()
            }
            Outcome::TimedOut => "timed-out".to_owned(),
            Outcome::NotConnected => "not-connected".to_owned(),
            Outcome::Broken => "broken".to_owned(),
        };
        *self.outcomes.entry(name).or_default() += 1;
    }

    pub(crate) fn lasted(&mut self, lasted: Duration) {
        self.lasted = lasted;
    }

    pub(crate) fn json(mut self) -> Value {
        self.latencies.sort_unstable();
        self.refusals.sort_unstable();
        let seconds = self.lasted.as_secs_f64();
        let of = |list: &[u32], share: f64| {
            let last = list.len().checked_sub(1)?;
            list.get((last as f64 * share).round() as usize)
                .map(|micros| f64::from(*micros) / 1000.0)
        };
        json!({
            "seconds": seconds,
            "offered": self.offered,
            "offered_per_second": self.offered as f64 / seconds,
            "answered": self.latencies.len(),
            "answered_per_second": self.latencies.len() as f64 / seconds,
            "answered_in_time": self.answered_in_time,
            "answered_in_time_per_second": self.answered_in_time as f64 / seconds,
            "outcomes": self.outcomes,
            "shed": self.shed,
            "p50_ms": of(&self.latencies, 0.5),
            "p90_ms": of(&self.latencies, 0.9),
            "p99_ms": of(&self.latencies, 0.99),
            "p999_ms": of(&self.latencies, 0.999),
            "max_ms": of(&self.latencies, 1.0),
            "shed_p50_ms": of(&self.refusals, 0.5),
            "shed_p99_ms": of(&self.refusals, 0.99),
        })
    }
}
