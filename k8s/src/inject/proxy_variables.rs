//! The variables by which an application's HTTP clients are told of the explicit proxy, for pods that may not redirect.

use control_api::well_known::{EXPLICIT_PROXY_PORT, NO_PROXY_VARIABLES, PROXY_VARIABLES};
use serde_json::{Value, json};

use super::patch::Patcher;
use crate::options::{Interception, Options, Placement};
use crate::pod::{Container, Pod};
use crate::reason::Warning;

/// A variable and its value.
pub(super) type Variable = (&'static str, String);

/// The variables that containers get; none where calls are not taken by them.
pub(super) fn of(options: &Options) -> Vec<Variable> {
    if options.interception != Interception::Env {
        return Vec::new();
    }
    let url = format!("http://127.0.0.1:{EXPLICIT_PROXY_PORT}");
    // Loopback is left alone, as redirect rules do.
    let mut exceptions = "localhost,127.0.0.1".to_owned();
    if !options.skip_outbound_cidrs.is_empty() {
        exceptions = format!("{exceptions},{}", options.skip_outbound_cidrs);
    }
    let proxy = PROXY_VARIABLES.map(|name| (name, url.clone()));
    let no_proxy = NO_PROXY_VARIABLES.map(|name| (name, exceptions.clone()));
    proxy.into_iter().chain(no_proxy).collect()
}

/// Adds the variables to every container that will find a proxy running. One that a container has already is kept.
pub(super) fn add(
    patcher: &mut Patcher,
    pod: &Pod,
    placement: Placement,
    variables: &[Variable],
    warnings: &mut Vec<Warning>,
) {
    // A classic proxy starts after the init containers.
    if placement == Placement::Native {
        add_to(
            patcher,
            "initContainers",
            pod.init_containers(),
            variables,
            warnings,
        );
    }
    add_to(patcher, "containers", pod.containers(), variables, warnings);
}

fn add_to(
    patcher: &mut Patcher,
    list: &str,
    containers: &[Container],
    variables: &[Variable],
    warnings: &mut Vec<Warning>,
) {
    for (place, container) in containers.iter().enumerate() {
        if super::containers::is_ours(&container.name) {
            continue;
        }
        let found = |name: &str| {
            let mut env = container.env.iter().flatten();
            env.find(|variable| variable.name.as_deref() == Some(name))
        };
        let mut missing: Vec<Value> = Vec::new();
        for (name, value) in variables {
            match found(name) {
                None => missing.push(json!({"name": name, "value": value})),
                Some(own) if own.value.as_deref() == Some(value) => {}
                Some(_) => warnings.push(Warning::ProxyVariableKept {
                    container: container.name.clone(),
                    variable: name,
                }),
            }
        }
        let place = place.to_string();
        patcher.append(
            &["spec", list, &place, "env"],
            container.env.is_some(),
            missing,
        );
    }
}
