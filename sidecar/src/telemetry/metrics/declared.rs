//! Every metric that weir exposes, declared in full: what is scraped is what stands here, so grepping a name finds its line.
//!
//! Names start with `weir_`; facts of the process bear the names that Prometheus' own libraries use, so that existing
//! dashboards find them.

mod calls;
mod connections;
mod proxy;

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

pub use calls::*;
pub use connections::*;
pub use proxy::*;

/// One metric: its name as scraped (counters with `_total`, histograms without `_bucket`), and what it means.
#[derive(Debug)]
pub struct Declaration {
    /// Name as scraped.
    pub name: &'static str,
    /// What it counts, for people.
    pub help: &'static str,
    /// Counter, gauge, histogram or info.
    pub kind: MetricType,
    /// The unit, which the name ends with.
    pub unit: Option<Unit>,
    /// Names of its labels. Their values come from [closed sets](super::labels), `destination` from a bounded table.
    pub labels: &'static [&'static str],
}

impl Declaration {
    /// The name without the suffixes that the exposition format adds.
    #[must_use]
    pub fn stem(&self) -> &'static str {
        let name = match self.kind {
            MetricType::Counter => self.name.trim_end_matches("_total"),
            MetricType::Info => self.name.trim_end_matches("_info"),
            MetricType::Gauge | MetricType::Histogram | MetricType::Unknown => self.name,
        };
        match &self.unit {
            Some(unit) => name
                .strip_suffix(unit.as_str())
                .map_or(name, |stem| stem.trim_end_matches('_')),
            None => name,
        }
    }
}

/// All of them, in the order in which they are scraped.
pub const ALL: &[&Declaration] = &[
    &CALLS,
    &CALL_DURATION,
    &ATTEMPTS,
    &ATTEMPT_DURATION,
    &ATTEMPT_ERRORS,
    &RETRIES,
    &REJECTED,
    &QUEUE_WAIT,
    &QUEUE_LENGTH,
    &QUEUE_OLDEST,
    &LIMIT,
    &IN_FLIGHT,
    &BUDGET,
    &STATE,
    &EJECTED,
    &OBSERVED,
    &DECISIONS,
    &CONNECTIONS_ACTIVE,
    &CONNECTIONS_IDLE,
    &CONNECTIONS_CLOSED,
    &CONNECTION_BYTES,
    &DETECTIONS,
    &DETECT_TIMEOUTS,
    &MALFORMED,
    &HEADER_LIMIT,
    &ACCEPT_PAUSES,
    &BYPASSES,
    &LATENESS,
    &BUSY,
    &POLICY_REVISION,
    &POLICY_UPDATES,
    &CONTROL_REQUESTS,
    &CONTROL_REFUSALS,
    &SPANS_EXPORTED,
    &SPANS_DROPPED,
    &LOG_SUPPRESSED,
    &BUILD,
    &RESIDENT,
    &PROPORTIONAL,
    &DESCRIPTORS,
    &DESCRIPTORS_MAX,
    &CPU,
    &STARTED,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_stem_with_the_suffixes_that_the_format_adds() {
        for metric in ALL {
            let mut name = metric.stem().to_owned();
            if let Some(unit) = &metric.unit {
                name = format!("{name}_{}", unit.as_str());
            }
            match metric.kind {
                MetricType::Counter => name.push_str("_total"),
                MetricType::Info => name.push_str("_info"),
                MetricType::Gauge | MetricType::Histogram | MetricType::Unknown => {}
            }
            assert_eq!(name, metric.name);
        }
    }

    #[test]
    fn names_are_unique_and_helps_are_one_line_without_a_full_stop() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(!metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']));
        }
    }
}
