//! Turns a document into the policy that the data plane reads: defaults merged into each route.

use std::sync::Arc;

use super::Document;
use super::quantity::{ByteSize, Length, Ratio};
use super::settings::{
    Admission, Backoff, Breaker, Budget, Ejection, OrAuto, OrNone, Queue, Retry, Settings,
};
use crate::policy::{self, Mode, Policy, Rule};

/// Compiles a whole document; `mode` is that of calls of which it says none.
pub(super) fn policy(document: &Document, mode: Mode) -> Policy {
    let built_in = Rule {
        mode,
        ..Rule::default()
    };
    let defaults = merged(&built_in, &document.defaults);
    let routes = document
        .routes
        .iter()
        .enumerate()
        .map(|(index, route)| {
            let name: Arc<str> = Arc::from(route.name(index));
            let mut rule = merged(&defaults, &route.settings);
            rule.scope = route.settings.has_own_state().then(|| Arc::clone(&name));
            rule.name = name;
            (route.matches.clone(), rule)
        })
        .collect();
    Policy::new(defaults, routes, &document.opaque_ports)
}

/// The rule of calls that no route matches.
pub(super) fn defaults(document: &Document) -> Rule {
    merged(&Rule::default(), &document.defaults)
}

/// `base` with everything that `settings` say.
pub(super) fn merged(base: &Rule, settings: &Settings) -> Rule {
    let mut rule = base.clone();
    set(&mut rule.mode, settings.mode);
    if let Some(deadline) = settings.deadline {
        rule.deadline = match deadline {
            OrNone::None => None,
            OrNone::Some(length) => Some(length.0),
        };
    }
    set(&mut rule.attempt_timeout, settings.attempt_timeout);
    if let Some(retry) = &settings.retry {
        merge_retry(&mut rule.retry, retry);
    }
    if let Some(admission) = &settings.admission {
        merge_admission(&mut rule.admission, admission);
    }
    set(&mut rule.priority, settings.priority);
    if let Some(breaker) = &settings.breaker {
        rule.breaker = match breaker {
            OrNone::None => None,
            OrNone::Some(breaker) => Some(policy::Breaker {
                consecutive_failures: breaker.consecutive_failures,
                ejection_min: breaker.ejection.min.0,
                ejection_max: breaker.ejection.max.0,
            }),
        };
    }
    rule
}

fn merge_retry(rule: &mut policy::Retry, retry: &Retry) {
    set(&mut rule.attempts, retry.attempts);
    set(&mut rule.on, retry.on);
    set(&mut rule.methods, retry.methods.clone());
    if let Some(backoff) = &retry.backoff {
        set(&mut rule.backoff_base, backoff.base.map(|base| base.0));
        set(&mut rule.backoff_max, backoff.max.map(|max| max.0));
    }
    if let Some(budget) = &retry.budget {
        let ratio_milli = budget.ratio.map(|ratio| ratio.milli);
        set(&mut rule.budget.ratio_milli, ratio_milli);
        set(&mut rule.budget.burst, budget.burst);
    }
    set(
        &mut rule.body_bytes_max,
        retry.body_bytes_max.map(|size| size.0),
    );
}

fn merge_admission(rule: &mut policy::Admission, admission: &Admission) {
    set(&mut rule.limit, admission.limit);
    let Some(queue) = &admission.queue else {
        return;
    };
    if let Some(length) = queue.length {
        rule.queue_length = match length {
            OrAuto::Auto => None,
            OrAuto::Fixed(length) => Some(length),
        };
    }
    if let Some(target) = queue.target {
        rule.queue_target = match target {
            OrAuto::Auto => None,
            OrAuto::Fixed(length) => Some(length.0),
        };
    }
    set(
        &mut rule.queue_timeout,
        queue.timeout.map(|timeout| timeout.0),
    );
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// The settings that say everything a rule does.
pub(super) fn settings(rule: &Rule) -> Settings {
    Settings {
        mode: Some(rule.mode),
        deadline: Some(match rule.deadline {
            None => OrNone::None,
            Some(length) => OrNone::Some(Length(length)),
        }),
        attempt_timeout: Some(rule.attempt_timeout),
        retry: Some(retry_settings(&rule.retry)),
        admission: Some(admission_settings(&rule.admission)),
        priority: Some(rule.priority),
        breaker: Some(match rule.breaker {
            None => OrNone::None,
            Some(breaker) => OrNone::Some(Breaker {
                consecutive_failures: breaker.consecutive_failures,
                ejection: Ejection {
                    min: Length(breaker.ejection_min),
                    max: Length(breaker.ejection_max),
                },
            }),
        }),
    }
}

fn retry_settings(retry: &policy::Retry) -> Retry {
    Retry {
        attempts: Some(retry.attempts),
        on: Some(retry.on),
        methods: Some(retry.methods.clone()),
        backoff: Some(Backoff {
            base: Some(Length(retry.backoff_base)),
            max: Some(Length(retry.backoff_max)),
        }),
        budget: Some(Budget {
            ratio: Some(Ratio {
                milli: retry.budget.ratio_milli,
            }),
            burst: Some(retry.budget.burst),
        }),
        body_bytes_max: Some(ByteSize(retry.body_bytes_max)),
    }
}

fn admission_settings(admission: &policy::Admission) -> Admission {
    Admission {
        limit: Some(admission.limit),
        queue: Some(Queue {
            length: Some(admission.queue_length.map_or(OrAuto::Auto, OrAuto::Fixed)),
            target: Some(
                admission
                    .queue_target
                    .map_or(OrAuto::Auto, |target| OrAuto::Fixed(Length(target))),
            ),
            timeout: Some(Length(admission.queue_timeout)),
        }),
    }
}
