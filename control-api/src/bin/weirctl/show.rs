//! Texts for people.

use std::collections::BTreeMap;
use std::fmt::Display;

use control_api::document::Change;
use control_api::view::{
    Applied, Connection, Decision, Destination, Revision, Status, Timestamp, UpdateCounts,
};
use serde_json::Value;

use crate::table::Table;

/// `weirctl status`
pub(crate) fn status(status: &Status) -> String {
    let policy = &status.policy;
    let mut lines = vec![
        format!(
            "weir {}, pid {}, up {}, {} workers{}",
            status.version,
            status.pid,
            length(status.uptime_ms),
            status.workers,
            if status.draining { ", draining" } else { "" }
        ),
        format!("policy     {}", described(&policy.revision)),
        format!(
            "updates    file {}; api {}",
            counts(policy.updates.file),
            counts(policy.updates.api)
        ),
        format!(
            "calls      {}, {} in flight, {} connections, {} destinations",
            status.calls, status.in_flight, status.connections, status.destinations
        ),
    ];
    for listener in &status.listeners {
        lines.push(format!("listening  {} {}", listener.name, listener.address));
    }
    if let Some(rejection) = &policy.last_rejection {
        lines.push(format!(
            "rejected   from {} {}",
            rejection.origin, rejection.at
        ));
        let reasons = rejection.detail.lines();
        lines.extend(reasons.map(|reason| format!("           {reason}")));
    }
    if policy.save_failures > 0 {
        let failures = policy.save_failures;
        lines.push(format!(
            "unsaved    {failures} policies could not be kept on disk"
        ));
    }
    lines.join("\n") + "\n"
}

/// `weirctl apply`, `diff` and `rollback`
pub(crate) fn applied(applied: &Applied) -> String {
    let mut lines: Vec<String> = applied.changes.iter().map(change).collect();
    let warnings = applied.warnings.iter();
    lines.extend(warnings.map(|warning| format!("warning: {warning}")));
    lines.push(match (applied.dry_run, applied.changes.is_empty()) {
        (_, true) => format!("revision {}: nothing changes", applied.revision),
        (true, false) => format!("revision {} stays: only tried", applied.revision),
        (false, false) => format!("revision {} is in force", applied.revision),
    });
    lines.join("\n") + "\n"
}

fn change(change: &Change) -> String {
    let pointer = if change.pointer.is_empty() {
        "document"
    } else {
        &change.pointer
    };
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("~ {pointer}: {before} -> {after}"),
        (None, Some(after)) => format!("+ {pointer}: {after}"),
        (Some(before), None) => format!("- {pointer}: {before}"),
        (None, None) => format!("  {pointer}"),
    }
}

/// `weirctl history`
pub(crate) fn revisions(revisions: &[Revision]) -> String {
    let mut table = Table::new(&["REVISION", "ORIGIN", "AT", "BY", "NOTE"]);
    for revision in revisions.iter().rev() {
        table.push(vec![
            revision.revision.to_string(),
            revision.origin.to_string(),
            revision.at.to_string(),
            optional(revision.author_uid.map(|uid| format!("uid {uid}"))),
            note(revision),
        ]);
    }
    table.text("no revisions")
}

fn note(revision: &Revision) -> String {
    let current = revision.current.then(|| "in force".to_owned());
    let rollback = revision
        .rollback_of
        .map(|earlier| format!("rollback to {earlier}"));
    let notes: Vec<String> = current.into_iter().chain(rollback).collect();
    notes.join(", ")
}

/// One line of `weirctl watch`
pub(crate) fn revision(revision: &Revision) -> String {
    described(revision) + "\n"
}

fn described(revision: &Revision) -> String {
    let author = revision.author_uid.map(|uid| format!(", by uid {uid}"));
    let rollback = revision
        .rollback_of
        .map(|earlier| format!(", rollback to {earlier}"));
    format!(
        "revision {} from {} {}{}{}",
        revision.revision,
        revision.origin,
        revision.at,
        author.unwrap_or_default(),
        rollback.unwrap_or_default()
    )
}

/// `weirctl destinations`
pub(crate) fn destinations(destinations: &[Destination]) -> String {
    let mut table = Table::new(&[
        "DESTINATION",
        "STATE",
        "IN FLIGHT",
        "QUEUE",
        "OLDEST",
        "P50",
        "P99",
        "BUDGET",
        "CALLS",
        "FAILED",
        "RETRIES",
        "SHED",
        "OBSERVED",
        "LAST ERROR",
    ]);
    for destination in destinations {
        table.push(vec![
            destination.name.clone(),
            destination.state.to_string(),
            format!("{}/{}", destination.in_flight, destination.limit),
            destination.queue_length.to_string(),
            millis(Some(destination.oldest_wait_ms)),
            millis(destination.latency.p50_ms),
            millis(destination.latency.p99_ms),
            format!("{:.1}", destination.budget_balance),
            destination.calls.to_string(),
            destination.errors().to_string(),
            destination.retries.to_string(),
            by_kind(&destination.sheds),
            by_kind(&destination.observed),
            last_error(destination),
        ]);
    }
    table.text("no destinations yet: nothing was called")
}

fn by_kind(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "0".to_owned();
    }
    joined(counts, u64::to_string)
}

fn last_error(destination: &Destination) -> String {
    match (&destination.last_error, destination.last_error_at) {
        (Some(error), Some(at)) => {
            // What to look at next is said in full where a call itself failed.
            let what = error.split(';').next().unwrap_or_default();
            format!("{what} ({} ago)", age(at))
        }
        (error, _) => optional(error.clone()),
    }
}

/// `weirctl decisions`
pub(crate) fn decisions(decisions: &[Decision]) -> String {
    let mut table = Table::new(&[
        "AT",
        "WHAT",
        "WHY",
        "DESTINATION",
        "ROUTE",
        "REVISION",
        "CALL",
        "INPUTS",
    ]);
    for decision in decisions {
        table.push(cells(decision));
    }
    table.text("no decisions: every call went through as it came")
}

/// One line of `weirctl decisions --follow`
pub(crate) fn decision(decision: &Decision) -> String {
    cells(decision).join("  ") + "\n"
}

fn cells(decision: &Decision) -> Vec<String> {
    let call = decision
        .correlation_id
        .as_ref()
        .or(decision.trace_id.as_ref());
    vec![
        decision.at.to_string(),
        decision.what.clone(),
        decision.reason.clone(),
        decision.destination.clone(),
        decision.route.clone(),
        decision.revision.to_string(),
        optional(call.cloned()),
        joined(&decision.inputs, number),
    ]
}

/// `weirctl connections`
pub(crate) fn connections(connections: &[Connection]) -> String {
    let mut table = Table::new(&[
        "ID",
        "PEER",
        "DESTINATION",
        "PROTOCOL",
        "AGE",
        "CALLS",
        "REVISION",
    ]);
    for connection in connections {
        table.push(vec![
            connection.id.to_string(),
            connection.peer.clone(),
            connection.destination.clone(),
            connection.protocol.clone(),
            age(connection.since),
            connection.calls.to_string(),
            connection.revision.to_string(),
        ]);
    }
    table.text("no open connections")
}

fn counts(counts: UpdateCounts) -> String {
    format!("{} accepted, {} rejected", counts.accepted, counts.rejected)
}

fn joined<V>(map: &BTreeMap<String, V>, show: impl Fn(&V) -> String) -> String {
    let members = map.iter();
    let members: Vec<String> = members
        .map(|(name, value)| format!("{name}={}", show(value)))
        .collect();
    members.join(" ")
}

fn optional(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn millis(millis: Option<f64>) -> String {
    optional(millis.map(|millis| format!("{millis:.1}ms")))
}

/// A number to three decimals, of which it has what it needs; anything else as it is.
fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) => ((number * 1e3).round() / 1e3).to_string(),
        None => value.to_string(),
    }
}

fn age(at: Timestamp) -> String {
    let age = Timestamp::now().since(at).as_millis();
    length(u64::try_from(age).unwrap_or(u64::MAX))
}

/// A length in its two largest units: `3h12m`.
fn length(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_decimals_they_need_and_at_most_three() {
        let numbers = [3.0, 17.287_530_999, 0.000_4, 1e9].map(|value| number(&value.into()));
        assert_eq!(numbers, ["3", "17.288", "0", "1000000000"]);
        assert_eq!(number(&"word".into()), "\"word\"");
    }

    #[test]
    fn lengths_have_their_two_largest_units() {
        let lengths = [0, 59_999, 61_000, 11_520_000, 180_000_000].map(length);
        assert_eq!(lengths, ["0s", "59s", "1m1s", "3h12m", "2d2h"]);
    }
}
