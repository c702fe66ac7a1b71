//! Writes everything that is counted as one page of `OpenMetrics` text.

mod page;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::Metrics;
use super::destinations::{DESTINATIONS_MAX, OTHER};
use super::process::ProcessFacts;
use crate::telemetry::facts::{DestinationFacts, Facts, State};
use page::Page;

/// The `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page of everything that is counted. Made once; [`text`](Self::text) is a scrape.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// A page of these counts, and of the state that `facts` answers for at each scrape.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, facts: Arc<dyn Facts>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Everything {
            metrics,
            facts,
            process: ProcessFacts::read,
        }));
        Self(registry)
    }

    #[cfg(test)]
    fn of_process(
        metrics: Arc<Metrics>,
        facts: Arc<dyn Facts>,
        process: fn() -> ProcessFacts,
    ) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Everything {
            metrics,
            facts,
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
    facts: Arc<dyn Facts>,
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
        page.destination_state(&folded(self.facts.destinations()))?;
        page.decisions(&self.metrics)?;
        page.connections(&self.metrics)?;
        page.workers(&self.metrics.workers())?;
        page.policy(&self.metrics, self.facts.as_ref())?;
        page.telemetry(&self.metrics)?;
        page.process((self.process)())
    }
}

/// At most [`DESTINATIONS_MAX`] of them, sorted and each name and scope once; the rest, and those that are counted as
/// [`OTHER`], are added up as [`OTHER`].
fn folded(all: Vec<DestinationFacts>) -> Vec<DestinationFacts> {
    let (mut shown, mut rest): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|facts| &**facts.metrics.name() != OTHER);
    shown.sort_by(|left, right| (&left.name, &left.scope).cmp(&(&right.name, &right.scope)));
    shown.dedup_by(|later, kept| {
        let same = later.name == kept.name && later.scope == kept.scope;
        if same {
            add(kept, later);
        }
        same
    });
    rest.extend(shown.drain(shown.len().min(DESTINATIONS_MAX)..));
    let other = rest.into_iter().reduce(|mut sum, facts| {
        add(&mut sum, &facts);
        sum
    });
    shown.extend(other.map(|mut other| {
        other.name = Arc::from(OTHER);
        other.scope = None;
        other
    }));
    shown
}

fn add(sum: &mut DestinationFacts, facts: &DestinationFacts) {
    sum.limit += facts.limit;
    sum.in_flight += facts.in_flight;
    sum.queue_length += facts.queue_length;
    sum.queue_oldest = sum.queue_oldest.max(facts.queue_oldest);
    sum.budget += facts.budget;
    sum.endpoints_ejected += facts.endpoints_ejected;
    if sum.state == State::Healthy {
        sum.state = facts.state;
    }
}

#[cfg(test)]
mod tests;
