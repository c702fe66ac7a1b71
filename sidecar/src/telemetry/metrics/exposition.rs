//! Writes everything that is counted as one page of `OpenMetrics` text.

mod page;

use std::fmt;
use std::sync::Arc;

use control_api::server::Introspect;
use control_api::view::{Destination, DestinationState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::Metrics;
use super::destinations::{DESTINATIONS_MAX, OTHER};
use super::process::ProcessFacts;
use page::Page;

/// The `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How often one kind of input was refused, as the code that reads it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Whose rules it broke; from a closed set.
    pub protocol: &'static str,
    /// What it was refused for.
    pub cause: Cause,
    /// How often.
    pub count: u64,
}

/// What input was refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Headers over the limit.
    HeaderLimit,
    /// A broken rule; its word is from a closed set.
    Malformed(&'static str),
}

/// Reads the counts of refused input. The code that counts stands above this one, so it is handed in.
pub type RefusedInput = fn() -> Vec<Refused>;

/// The page of everything that is counted. Made once; [`text`](Self::text) is a scrape.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// A page of these counts, and of the state that `proxy` answers for at each scrape.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, proxy: Arc<dyn Introspect>, refused: RefusedInput) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Everything {
            metrics,
            proxy,
            refused,
            process: ProcessFacts::read,
        }));
        Self(registry)
    }

    #[cfg(test)]
    fn of_process(
        metrics: Arc<Metrics>,
        proxy: Arc<dyn Introspect>,
        refused: RefusedInput,
        process: fn() -> ProcessFacts,
    ) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Everything {
            metrics,
            proxy,
            refused,
            process,
        }));
        Self(registry)
    }

    /// Scrapes.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut page = String::with_capacity(16 * 1024);
        text::encode(&mut page, &self.0)?;
        Ok(page)
    }
}

struct Everything {
    metrics: Arc<Metrics>,
    proxy: Arc<dyn Introspect>,
    refused: RefusedInput,
    process: fn() -> ProcessFacts,
}

impl fmt::Debug for Everything {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Everything").finish_non_exhaustive()
    }
}

impl Collector for Everything {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.calls(&self.metrics.destinations.all())?;
        page.destination_state(&folded(self.proxy.destinations()))?;
        page.decisions(&self.metrics)?;
        page.connections(&self.metrics)?;
        page.refused(&(self.refused)())?;
        page.workers(&self.metrics.workers())?;
        let status = self.proxy.status();
        page.policy(&status.policy)?;
        page.control(&status.control)?;
        page.telemetry(&self.metrics)?;
        page.process((self.process)())
    }
}

/// At most [`DESTINATIONS_MAX`] of them, sorted, each name and scope once; the rest are added up as [`OTHER`].
fn folded(mut all: Vec<Destination>) -> Vec<Destination> {
    all.sort_by(|left, right| (&left.name, &left.scope).cmp(&(&right.name, &right.scope)));
    all.dedup_by(|later, kept| {
        let same = later.name == kept.name && later.scope == kept.scope;
        if same {
            add(kept, later);
        }
        same
    });
    let rest = all.drain(all.len().min(DESTINATIONS_MAX)..);
    let other = rest.reduce(|mut sum, destination| {
        add(&mut sum, &destination);
        sum
    });
    all.extend(other.map(|mut other| {
        OTHER.clone_into(&mut other.name);
        other.scope = None;
        other
    }));
    all
}

fn add(sum: &mut Destination, one: &Destination) {
    sum.limit = sum.limit.saturating_add(one.limit);
    sum.in_flight = sum.in_flight.saturating_add(one.in_flight);
    sum.queue_length = sum.queue_length.saturating_add(one.queue_length);
    sum.oldest_wait_ms = sum.oldest_wait_ms.max(one.oldest_wait_ms);
    sum.budget_balance += one.budget_balance;
    sum.ejected_endpoints = sum.ejected_endpoints.saturating_add(one.ejected_endpoints);
    for (what, count) in &one.observed {
        *sum.observed.entry(what.clone()).or_default() += count;
    }
    if sum.state == DestinationState::Healthy {
        sum.state = one.state;
    }
}

#[cfg(test)]
mod tests;
