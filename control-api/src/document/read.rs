//! Reads a document's value: its fields, their types and their bounds.

use std::time::Duration;

use serde_json::Value;

use super::error::{Finding, Findings};
use super::leaf::{body_bytes_max, bounds, length, methods, or_auto, or_none, port, ratio};
use super::quantity::Length;
use super::reader::{Fields, Node, within};
use super::settings::{
    Admission, Backoff, Breaker, Budget, CONDITIONS, Ejection, NO_CONDITIONS, Queue, Retry,
    Settings,
};
use super::{Document, VERSION, check, route};
use crate::policy::{AttemptTimeout, Conditions, Methods, Mode, Priority};

/// Reads a document, or lists everything that is wrong with it.
pub(super) fn document(value: &Value) -> Result<Document, Vec<Finding>> {
    let mut findings = Findings::default();
    let mut document = Document::default();
    if let Some(fields) = Node::root(value).fields(DOCUMENT_FIELDS, &mut findings) {
        version(&fields, &mut findings);
        document.defaults = fields
            .read("defaults", &mut findings, |node, findings| {
                let fields = node.fields(SETTINGS_FIELDS, findings)?;
                Some(settings(&fields, findings))
            })
            .unwrap_or_default();
        document.routes = fields
            .read("routes", &mut findings, route::routes)
            .unwrap_or_default();
        document.opaque_ports = fields
            .read("opaquePorts", &mut findings, opaque_ports)
            .unwrap_or_default();
        check::mistakes(&document, &mut findings);
    }
    let findings = findings.into_vec();
    if findings.is_empty() {
        Ok(document)
    } else {
        Err(findings)
    }
}

fn version(fields: &Fields<'_>, findings: &mut Findings) {
    match fields.get("version") {
        None => findings.push("/version", format!("missing; write version: {VERSION}")),
        Some(node) if node.is_word(VERSION) => {}
        Some(node) => node.is_not(
            format_args!("a version that is known here; expected {VERSION}"),
            findings,
        ),
    }
}

fn opaque_ports(node: &Node<'_>, findings: &mut Findings) -> Option<Vec<u16>> {
    let mut ports: Vec<u16> = node
        .items(OPAQUE_PORTS_MAX, findings)?
        .iter()
        .filter_map(|item| port(item, findings))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

/// The settings among the fields of the defaults or of a route.
pub(super) fn settings(fields: &Fields<'_>, findings: &mut Findings) -> Settings {
    Settings {
        mode: fields.read("mode", findings, |node, findings| {
            node.one_of(&Mode::ALL, Mode::word, findings)
        }),
        deadline: fields.read("deadline", findings, |node, findings| {
            or_none(node, findings, |node, findings| {
                length(node, CALL_LENGTHS, findings)
            })
        }),
        attempt_timeout: fields.read("attemptTimeout", findings, attempt_timeout),
        retry: fields.read("retry", findings, retry),
        admission: fields.read("admission", findings, admission),
        priority: fields.read("priority", findings, |node, findings| {
            node.one_of(&Priority::ALL, Priority::word, findings)
        }),
        breaker: fields.read("breaker", findings, |node, findings| {
            or_none(node, findings, breaker)
        }),
    }
}

fn attempt_timeout(node: &Node<'_>, findings: &mut Findings) -> Option<AttemptTimeout> {
    if node.is_word("none") {
        return Some(AttemptTimeout::None);
    }
    if node.is_word("adaptive") {
        return Some(AttemptTimeout::Adaptive);
    }
    length(node, CALL_LENGTHS, findings).map(|length| AttemptTimeout::After(length.0))
}

fn retry(node: &Node<'_>, findings: &mut Findings) -> Option<Retry> {
    let fields = node.fields(RETRY_FIELDS, findings)?;
    Some(Retry {
        attempts: fields.read("attempts", findings, |node, findings| {
            node.integer(1..=ATTEMPTS_MAX, findings)
        }),
        on: fields.read("on", findings, conditions),
        methods: fields.read("methods", findings, retry_methods),
        backoff: fields.read("backoff", findings, backoff),
        budget: fields.read("budget", findings, budget),
        body_bytes_max: fields.read("bodyBytesMax", findings, body_bytes_max),
    })
}

fn conditions(node: &Node<'_>, findings: &mut Findings) -> Option<Conditions> {
    let mut on = NO_CONDITIONS;
    for item in node.items(CONDITIONS.len(), findings)? {
        if let Some((_, member)) = item.one_of(&CONDITIONS, |(word, _)| word, findings) {
            *member(&mut on) = true;
        }
    }
    Some(on)
}

fn retry_methods(node: &Node<'_>, findings: &mut Findings) -> Option<Methods> {
    if node.is_word("idempotent") {
        return Some(Methods::Idempotent);
    }
    if node.is_word("all") {
        return Some(Methods::All);
    }
    if !node.is_list() {
        node.is_not("idempotent, all or a list of methods", findings);
        return None;
    }
    methods(node, findings).map(Methods::Only)
}

fn backoff(node: &Node<'_>, findings: &mut Findings) -> Option<Backoff> {
    let fields = node.fields(BACKOFF_FIELDS, findings)?;
    let mut read = |name| {
        fields.read(name, findings, |node, findings| {
            length(node, WAIT_LENGTHS, findings)
        })
    };
    Some(Backoff {
        base: read("base"),
        max: read("max"),
    })
}

fn budget(node: &Node<'_>, findings: &mut Findings) -> Option<Budget> {
    let fields = node.fields(BUDGET_FIELDS, findings)?;
    Some(Budget {
        ratio: fields.read("ratio", findings, ratio),
        burst: fields.read("burst", findings, |node, findings| {
            node.integer(0..=BURST_MAX, findings)
        }),
    })
}

fn admission(node: &Node<'_>, findings: &mut Findings) -> Option<Admission> {
    let fields = node.fields(ADMISSION_FIELDS, findings)?;
    Some(Admission {
        limit: fields.read("limit", findings, limit),
        queue: fields.read("queue", findings, queue),
    })
}

fn limit(node: &Node<'_>, findings: &mut Findings) -> Option<u32> {
    if node.is_word("adaptive") {
        let detail = "adaptive limits are not available yet; write a number of calls in flight";
        findings.push(node.pointer(), detail);
        return None;
    }
    node.integer(1..=CALLS_MAX, findings)
}

fn queue(node: &Node<'_>, findings: &mut Findings) -> Option<Queue> {
    let fields = node.fields(QUEUE_FIELDS, findings)?;
    Some(Queue {
        length: fields.read("length", findings, |node, findings| {
            or_auto(node, findings, |node, findings| {
                node.integer(0..=CALLS_MAX, findings)
            })
        }),
        target: fields.read("target", findings, |node, findings| {
            or_auto(node, findings, |node, findings| {
                length(node, WAIT_LENGTHS, findings)
            })
        }),
        timeout: fields.read("timeout", findings, |node, findings| {
            length(node, WAIT_LENGTHS, findings)
        }),
    })
}

fn breaker(node: &Node<'_>, findings: &mut Findings) -> Option<Breaker> {
    let fields = node.fields(BREAKER_FIELDS, findings)?;
    let consecutive_failures = match fields.get("consecutiveFailures") {
        Some(node) => node.integer(1..=FAILURES_MAX, findings)?,
        None => CONSECUTIVE_FAILURES,
    };
    let ejection = match fields.get("ejection") {
        Some(node) => ejection(&node, findings)?,
        None => EJECTION,
    };
    Some(Breaker {
        consecutive_failures,
        ejection,
    })
}

fn ejection(node: &Node<'_>, findings: &mut Findings) -> Option<Ejection> {
    let both = node.text().and_then(|text| text.split_once(".."));
    let both =
        both.and_then(|(min, max)| Some((Length::parse(min.trim())?, Length::parse(max.trim())?)));
    let Some((min, max)) = both else {
        node.is_not("a range of lengths, such as 1s..60s", findings);
        return None;
    };
    let min = within(
        Some(min),
        bounds(CALL_LENGTHS),
        min,
        node.pointer(),
        findings,
    )?;
    let max = within(
        Some(max),
        bounds(CALL_LENGTHS),
        max,
        node.pointer(),
        findings,
    )?;
    if min > max {
        let detail = format!("{min} is above {max}; write the shorter length first");
        findings.push(node.pointer(), detail);
        return None;
    }
    Some(Ejection { min, max })
}

pub(super) const DOCUMENT_FIELDS: &[&str] = &["version", "defaults", "routes", "opaquePorts"];
pub(super) const SETTINGS_FIELDS: &[&str] = &[
    "mode",
    "deadline",
    "attemptTimeout",
    "retry",
    "admission",
    "priority",
    "breaker",
];
pub(super) const RETRY_FIELDS: &[&str] = &[
    "attempts",
    "on",
    "methods",
    "backoff",
    "budget",
    "bodyBytesMax",
];
pub(super) const BACKOFF_FIELDS: &[&str] = &["base", "max"];
pub(super) const BUDGET_FIELDS: &[&str] = &["ratio", "burst"];
pub(super) const ADMISSION_FIELDS: &[&str] = &["limit", "queue"];
pub(super) const QUEUE_FIELDS: &[&str] = &["length", "target", "timeout"];
pub(super) const BREAKER_FIELDS: &[&str] = &["consecutiveFailures", "ejection"];

/// Most routes; a pod that calls more than a thousand kinds of things has another problem.
pub(super) const ROUTES_MAX: usize = 1000;
/// Most opaque ports.
const OPAQUE_PORTS_MAX: usize = 1000;
/// Most tries of a call. More only multiply an outage.
const ATTEMPTS_MAX: u32 = 10;
/// Most retries that a budget saves up.
const BURST_MAX: u32 = 1000;
/// Most calls in flight to, or waiting for, one destination.
const CALLS_MAX: u32 = 100_000;
/// Most failures in a row before an ejection.
const FAILURES_MAX: u32 = 1000;
/// Failures in a row that eject, where the breaker does not say; Envoy's default is 5, Linkerd's 7.
const CONSECUTIVE_FAILURES: u32 = 7;
/// First and longest ejection, where the breaker does not say.
const EJECTION: Ejection = Ejection {
    min: Length(Duration::from_secs(1)),
    max: Length(Duration::from_mins(1)),
};
/// Bounds of deadlines, attempt timeouts and ejections.
const CALL_LENGTHS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_hours(24));
/// Bounds of what a call may wait before it is dispatched.
const WAIT_LENGTHS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_mins(10));
