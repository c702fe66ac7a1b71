//! The page's sections: one method a group of metrics, in the order of [`declared`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use control_api::view::{ControlCounts, Destination, DestinationState, Origin, PolicyStatus};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};

use super::{Cause, Refused};
use crate::telemetry::metrics::declared::{self, Declaration};
use crate::telemetry::metrics::destinations::DestinationMetrics;
use crate::telemetry::metrics::labels::{Closed, Detection};
use crate::telemetry::metrics::numbers::{Counters, Distribution};
use crate::telemetry::metrics::process::ProcessFacts;
use crate::telemetry::metrics::{Metrics, WorkerMetrics};
use crate::telemetry::record::Protocol;

/// A page under way.
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    fn family(&mut self, declared: &'static Declaration) -> Result<Family<'_>, fmt::Error> {
        let encoder = self.0.encode_descriptor(
            declared.stem(),
            declared.help,
            declared.unit.as_ref(),
            declared.kind,
        )?;
        Ok(Family { encoder, declared })
    }

    pub(super) fn calls(&mut self, destinations: &[Arc<DestinationMetrics>]) -> fmt::Result {
        let mut family = self.family(&declared::CALLS)?;
        for each in destinations {
            let spoken = Protocol::ALL.iter().zip(&each.calls);
            for (protocol, outcomes) in spoken.filter(|(_, outcomes)| outcomes.sum() > 0) {
                for (outcome, count) in outcomes.each() {
                    let labels = [
                        ("destination", &*each.name),
                        ("protocol", protocol.word()),
                        ("outcome", outcome.word()),
                    ];
                    family.count(&labels, count)?;
                }
            }
        }
        let mut family = self.family(&declared::CALL_DURATION)?;
        for each in destinations {
            family.distribution(&[("destination", &each.name)], &each.call_duration.read())?;
        }
        let mut family = self.family(&declared::ATTEMPTS)?;
        for each in destinations {
            family.counts("result", &each.name, &each.attempts)?;
        }
        let mut family = self.family(&declared::ATTEMPT_DURATION)?;
        for each in destinations {
            family.distribution(
                &[("destination", &each.name)],
                &each.attempt_duration.read(),
            )?;
        }
        let mut family = self.family(&declared::ATTEMPT_ERRORS)?;
        for each in destinations {
            family.counts("kind", &each.name, &each.attempt_errors)?;
        }
        let mut family = self.family(&declared::RETRIES)?;
        for each in destinations {
            family.counts("outcome", &each.name, &each.retries)?;
        }
        let mut family = self.family(&declared::REJECTED)?;
        for each in destinations {
            family.counts("reason", &each.name, &each.rejected)?;
        }
        let mut family = self.family(&declared::QUEUE_WAIT)?;
        for each in destinations {
            family.distribution(&[("destination", &each.name)], &each.queue_wait.read())?;
        }
        Ok(())
    }

    pub(super) fn destination_state(&mut self, all: &[Destination]) -> fmt::Result {
        let gauges: [(&Declaration, Level); 4] = [
            (&declared::QUEUE_LENGTH, |facts| facts.queue_length),
            (&declared::LIMIT, |facts| facts.limit),
            (&declared::IN_FLIGHT, |facts| facts.in_flight),
            (&declared::EJECTED, |facts| facts.ejected_endpoints),
        ];
        for (declared, value) in gauges {
            let mut family = self.family(declared)?;
            for facts in all {
                with_scope(facts, |labels| family.level(labels, value(facts).into()))?;
            }
        }
        let mut family = self.family(&declared::QUEUE_OLDEST)?;
        for facts in all {
            let age = facts.oldest_wait_ms / 1e3;
            with_scope(facts, |labels| family.amount(labels, age))?;
        }
        let mut family = self.family(&declared::BUDGET)?;
        for facts in all {
            with_scope(facts, |labels| family.amount(labels, facts.budget_balance))?;
        }
        let mut family = self.family(&declared::STATE)?;
        for facts in all {
            for state in DestinationState::ALL {
                with_scope(facts, |labels| {
                    let labels = [labels, &[("state", state.word())]].concat();
                    family.level(&labels, u64::from(facts.state == state))
                })?;
            }
        }
        let mut family = self.family(&declared::OBSERVED)?;
        for facts in all {
            for (verdict, count) in &facts.observed {
                with_scope(facts, |labels| {
                    let labels = [labels, &[("verdict", verdict.as_str())]].concat();
                    family.count(&labels, *count)
                })?;
            }
        }
        Ok(())
    }

    pub(super) fn decisions(&mut self, metrics: &Metrics) -> fmt::Result {
        let mut family = self.family(&declared::DECISIONS)?;
        for ((verdict, reason), count) in metrics.decisions.all() {
            family.count(&[("verdict", verdict.as_str()), ("reason", reason)], count)?;
        }
        Ok(())
    }

    pub(super) fn connections(&mut self, metrics: &Metrics) -> fmt::Result {
        let mut family = self.family(&declared::CONNECTIONS_ACTIVE)?;
        for ((side, speaks), count) in metrics.active.each() {
            family.level(&[("side", side.word()), ("protocol", speaks.word())], count)?;
        }
        self.family(&declared::CONNECTIONS_IDLE)?
            .level(&[], metrics.idle())?;
        let mut family = self.family(&declared::CONNECTIONS_CLOSED)?;
        for ((side, speaks), count) in metrics.ended.each() {
            family.count(&[("side", side.word()), ("protocol", speaks.word())], count)?;
        }
        let mut family = self.family(&declared::CONNECTION_BYTES)?;
        for ((side, direction), count) in metrics.bytes.each() {
            family.count(
                &[("side", side.word()), ("direction", direction.word())],
                count,
            )?;
        }
        let mut family = self.family(&declared::DETECTIONS)?;
        for (detection, count) in metrics.detections.each() {
            family.count(&[("protocol", detection.word())], count)?;
        }
        let timeouts = metrics.detections.get(Detection::TimedOut);
        self.family(&declared::DETECT_TIMEOUTS)?
            .count(&[], timeouts)?;
        let mut family = self.family(&declared::ACCEPT_PAUSES)?;
        for (reason, count) in metrics.accept_pauses.each() {
            family.count(&[("reason", reason.word())], count)?;
        }
        let bypasses = metrics.bypasses_seen.load(Relaxed);
        self.family(&declared::BYPASSES)?.count(&[], bypasses)
    }

    pub(super) fn refused(&mut self, all: &[Refused]) -> fmt::Result {
        let mut family = self.family(&declared::MALFORMED)?;
        for refused in all {
            if let Cause::Malformed(kind) = refused.cause {
                let labels = [("protocol", refused.protocol), ("kind", kind)];
                family.count(&labels, refused.count)?;
            }
        }
        let mut family = self.family(&declared::HEADER_LIMIT)?;
        for refused in all {
            if refused.cause == Cause::HeaderLimit {
                family.count(&[("protocol", refused.protocol)], refused.count)?;
            }
        }
        Ok(())
    }

    pub(super) fn workers(&mut self, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
        let mut family = self.family(&declared::LATENESS)?;
        for worker in workers {
            family.distribution(&[("worker", worker.name())], &worker.lateness())?;
        }
        let mut family = self.family(&declared::BUSY)?;
        for worker in workers {
            family.seconds_total(&[("worker", worker.name())], worker.busy().as_secs_f64())?;
        }
        Ok(())
    }

    pub(super) fn policy(&mut self, policy: &PolicyStatus) -> fmt::Result {
        self.family(&declared::POLICY_REVISION)?
            .level(&[], policy.revision.revision)?;
        let mut family = self.family(&declared::POLICY_UPDATES)?;
        let by_origin = [
            (Origin::File, policy.updates.file),
            (Origin::Api, policy.updates.api),
        ];
        for (origin, updates) in by_origin {
            let results = [
                ("accepted", updates.accepted),
                ("rejected", updates.rejected),
            ];
            for (result, count) in results {
                family.count(&[("origin", origin.word()), ("result", result)], count)?;
            }
        }
        Ok(())
    }

    pub(super) fn control(&mut self, counts: &ControlCounts) -> fmt::Result {
        self.family(&declared::CONTROL_REQUESTS)?
            .count(&[], counts.requests)?;
        let mut family = self.family(&declared::CONTROL_REFUSALS)?;
        let by_reason = [
            ("caller", counts.refused_callers),
            ("connections", counts.refused_connections),
        ];
        for (reason, count) in by_reason {
            family.count(&[("reason", reason)], count)?;
        }
        Ok(())
    }

    pub(super) fn telemetry(&mut self, metrics: &Metrics) -> fmt::Result {
        self.family(&declared::SPANS_EXPORTED)?
            .count(&[], metrics.spans_exported_total())?;
        let mut family = self.family(&declared::SPANS_DROPPED)?;
        for (reason, count) in metrics.spans_dropped.each() {
            family.count(&[("reason", reason.word())], count)?;
        }
        self.family(&declared::LOG_SUPPRESSED)?
            .count(&[], metrics.log_suppressed.load(Relaxed))?;
        self.family(&declared::BUILD)?.at(&[], |series| {
            series.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
        })
    }

    pub(super) fn process(&mut self, facts: ProcessFacts) -> fmt::Result {
        let levels = [
            (&declared::RESIDENT, facts.resident),
            (&declared::PROPORTIONAL, facts.proportional),
            (&declared::DESCRIPTORS, facts.descriptors),
            (&declared::DESCRIPTORS_MAX, facts.descriptors_max),
        ];
        for (declared, level) in levels {
            if let Some(level) = level {
                self.family(declared)?.level(&[], level)?;
            }
        }
        if let Some(cpu) = facts.cpu {
            self.family(&declared::CPU)?
                .seconds_total(&[], cpu.as_secs_f64())?;
        }
        if let Some(started) = facts.started {
            self.family(&declared::STARTED)?
                .amount(&[], started.as_secs_f64())?;
        }
        Ok(())
    }
}

/// Reads one number of a destination.
type Level = fn(&Destination) -> u32;

type Labels<'a> = &'a [(&'static str, &'a str)];

/// One family under way: its descriptor is written, its series follow.
struct Family<'a> {
    encoder: MetricEncoder<'a>,
    declared: &'static Declaration,
}

impl Family<'_> {
    fn at(
        &mut self,
        labels: Labels<'_>,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        debug_assert!(
            labels
                .iter()
                .all(|(name, _)| self.declared.labels.contains(name)),
            "{} has labels that are not declared",
            self.declared.name
        );
        if labels.is_empty() {
            write(&mut self.encoder)
        } else {
            write(&mut self.encoder.encode_family(&labels)?)
        }
    }

    fn count(&mut self, labels: Labels<'_>, count: u64) -> fmt::Result {
        self.at(labels, |series| {
            series.encode_counter::<NoLabelSet, _, f64>(&count, None)
        })
    }

    fn seconds_total(&mut self, labels: Labels<'_>, seconds: f64) -> fmt::Result {
        self.at(labels, |series| {
            series.encode_counter::<NoLabelSet, _, f64>(&seconds, None)
        })
    }

    fn level(&mut self, labels: Labels<'_>, level: u64) -> fmt::Result {
        self.at(labels, |series| series.encode_gauge(&level))
    }

    fn amount(&mut self, labels: Labels<'_>, amount: f64) -> fmt::Result {
        self.at(labels, |series| series.encode_gauge(&amount))
    }

    fn distribution(&mut self, labels: Labels<'_>, read: &Distribution) -> fmt::Result {
        self.at(labels, |series| {
            series.encode_histogram::<NoLabelSet>(read.sum, read.count, &read.buckets, None)
        })
    }

    /// One series for each value of a closed set, those that never occurred included: a rate needs the 0 before the 1.
    fn counts<L: Closed, const N: usize>(
        &mut self,
        label: &'static str,
        destination: &str,
        counts: &Counters<L, N>,
    ) -> fmt::Result {
        for (value, count) in counts.each() {
            self.count(
                &[("destination", destination), (label, value.word())],
                count,
            )?;
        }
        Ok(())
    }
}

fn with_scope(facts: &Destination, write: impl FnOnce(Labels<'_>) -> fmt::Result) -> fmt::Result {
    match &facts.scope {
        Some(scope) => write(&[("destination", &facts.name), ("scope", scope)]),
        None => write(&[("destination", &facts.name)]),
    }
}
