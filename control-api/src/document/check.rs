//! Checks what no field can tell alone: mistakes between fields, and what is allowed but probably not meant.

use std::collections::HashMap;

use super::error::{Finding, Findings};
use super::quantity::Length;
use super::settings::{Backoff, OrNone, Settings};
use super::{Document, compile};
use crate::policy::{AttemptTimeout, Methods, Rule};
use crate::well_known::OPAQUE_PORTS;

/// Finds mistakes between fields that are right on their own.
pub(super) fn mistakes(document: &Document, findings: &mut Findings) {
    let built_in = Rule::default();
    settings_mistakes("/defaults", &built_in, &document.defaults, findings);
    let defaults = compile::defaults(document);
    let mut names = HashMap::new();
    for (index, route) in document.routes.iter().enumerate() {
        let pointer = format!("/routes/{index}");
        settings_mistakes(&pointer, &defaults, &route.settings, findings);
        let Some(name) = &route.name else {
            continue;
        };
        if let Some(first) = names.get(name) {
            findings.push(
                &format!("{pointer}/name"),
                format!("{name} is the name of /routes/{first} already"),
            );
        } else {
            names.insert(name, index);
        }
    }
}

fn settings_mistakes(
    pointer: &str,
    inherited: &Rule,
    settings: &Settings,
    findings: &mut Findings,
) {
    if let (Some(AttemptTimeout::After(timeout)), Some(OrNone::Some(deadline))) =
        (settings.attempt_timeout, settings.deadline)
        && timeout > deadline.0
    {
        findings.push(
            &format!("{pointer}/attemptTimeout"),
            format!("{} is above the deadline of {deadline}", Length(timeout)),
        );
    }
    let backoff = settings
        .retry
        .as_ref()
        .and_then(|retry| retry.backoff.as_ref());
    if let Some(backoff) = backoff {
        backoff_mistakes(pointer, inherited, backoff, findings);
    }
}

fn backoff_mistakes(pointer: &str, inherited: &Rule, backoff: &Backoff, findings: &mut Findings) {
    let from = |given: Option<Length>| match given {
        Some(_) => "",
        None => " that it inherits",
    };
    let base = backoff.base.unwrap_or(Length(inherited.retry.backoff_base));
    let max = backoff.max.unwrap_or(Length(inherited.retry.backoff_max));
    if base <= max {
        return;
    }
    match backoff.base {
        Some(_) => findings.push(
            &format!("{pointer}/retry/backoff/base"),
            format!("{base} is above the max of {max}{}", from(backoff.max)),
        ),
        None => findings.push(
            &format!("{pointer}/retry/backoff/max"),
            format!("{max} is below the base of {base}{}", from(backoff.base)),
        ),
    }
}

/// Finds what is allowed, yet probably not meant.
pub(super) fn warnings(document: &Document) -> Vec<Finding> {
    let mut findings = Findings::default();
    let built_in = Rule::default();
    settings_warnings("/defaults", &built_in, &document.defaults, &mut findings);
    let defaults = compile::defaults(document);
    let mut seen = HashMap::new();
    for (index, route) in document.routes.iter().enumerate() {
        let pointer = format!("/routes/{index}");
        settings_warnings(&pointer, &defaults, &route.settings, &mut findings);
        if route.name.is_none() && route.settings.has_own_state() {
            findings.push(
                &pointer,
                "has admission, a budget or a breaker of its own, but no name: they start afresh when the route moves",
            );
        }
        match seen.get(&route.matches) {
            Some(first) => findings.push(
                &pointer,
                format!("is never used: /routes/{first} matches the same calls"),
            ),
            None => drop(seen.insert(&route.matches, index)),
        }
    }
    for port in &document.opaque_ports {
        if OPAQUE_PORTS.contains(port) {
            findings.push(
                "/opaquePorts",
                format!("{port} is opaque without being listed"),
            );
        }
    }
    findings.into_vec()
}

fn settings_warnings(
    pointer: &str,
    inherited: &Rule,
    settings: &Settings,
    findings: &mut Findings,
) {
    let rule = compile::merged(inherited, settings);
    if let Some(retry) = &settings.retry {
        if retry.methods == Some(Methods::All) {
            findings.push(
                &format!("{pointer}/retry/methods"),
                "all: a call that is not idempotent may be processed more than once",
            );
        }
        if rule.retry.attempts == 1 && (retry.on.is_some() || retry.budget.is_some()) {
            findings.push(
                &format!("{pointer}/retry/attempts"),
                "1: nothing is retried, so the other settings of retry have no effect",
            );
        }
    }
    let timeout = settings
        .admission
        .as_ref()
        .and_then(|admission| admission.queue.as_ref())
        .and_then(|queue| queue.timeout);
    if let (Some(timeout), Some(deadline)) = (timeout, rule.deadline)
        && timeout.0 > deadline
    {
        findings.push(
            &format!("{pointer}/admission/queue/timeout"),
            format!(
                "{timeout} has no effect: the deadline of {} comes first",
                Length(deadline)
            ),
        );
    }
    if matches!(settings.breaker, Some(OrNone::Some(_))) {
        findings.push(
            &format!("{pointer}/breaker"),
            "a Service's cluster IP is one endpoint: when it is ejected, every call to it is refused",
        );
    }
}
