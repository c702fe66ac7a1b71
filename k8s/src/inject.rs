//! Decides what becomes of a pod: a JSON patch that puts the sidecar into it, or a reason why it stays as it is.
//!
//! Pure: the same pod, facts and settings give the same outcome, and a pod that was patched is not patched again. So it
//! does not matter how often, on which replica or where (webhook or command line) it is done.

mod common;
mod containers;
mod init_step;
mod obstacle;
mod patch;
mod proxy_variables;

use control_api::well_known::kubernetes::{PREFIX, PROXY_CONTAINER};
use json_patch::Patch;
use serde_json::{Value, json};

use crate::options::{
    INJECT_LABEL, Interception, OptionError, Options, Placement, STATUS_ANNOTATION,
};
use crate::pod::Pod;
use crate::reason::{Skip, Warning};
use crate::settings::Settings;
use crate::workload::Workload;
use containers::Sidecar;
use patch::Patcher;
use proxy_variables::Variable;

/// What a pod does not say itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// What the pod belongs to. None: what it says of its owner.
    pub workload: Option<Workload>,
    /// What its namespace allows.
    pub pod_security: PodSecurity,
}

/// What the namespace's Pod Security level is about the capability that redirect rules need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodSecurity {
    /// `privileged`, or none is enforced.
    #[default]
    AllowsNetAdmin,
    /// `baseline` or `restricted` is enforced: a pod that asks for `NET_ADMIN` would be refused.
    ForbidsNetAdmin,
}

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It gets the sidecar.
    Injected {
        /// What to change.
        patch: Patch,
        /// What its owner should know.
        warnings: Vec<Warning>,
    },
    /// It stays as it is.
    Skipped {
        /// Why.
        skip: Skip,
        /// What its owner should know besides.
        warnings: Vec<Warning>,
    },
}

impl Outcome {
    /// The code of the skip, or `injected`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Injected { .. } => "injected",
            Self::Skipped { skip, .. } => skip.code(),
        }
    }

    /// What people should be told, most important first.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let (skip, warnings) = match self {
            Self::Injected { warnings, .. } => (None, warnings),
            Self::Skipped { skip, warnings } => {
                (Some(skip).filter(|skip| skip.is_news()), warnings)
            }
        };
        let skip = skip.map(ToString::to_string);
        skip.into_iter()
            .chain(warnings.iter().map(ToString::to_string))
            .collect()
    }
}

/// Decides what becomes of `pod`, a pod or a template of one.
///
/// # Errors
/// It has not the shape of a pod.
pub fn inject(
    pod: &Value,
    facts: &Facts,
    settings: &Settings,
) -> Result<Outcome, serde_json::Error> {
    let pod = Pod::read(pod)?;
    let mut warnings = Vec::new();
    Ok(match patch_of(&pod, facts, settings, &mut warnings) {
        Ok(patch) => Outcome::Injected { patch, warnings },
        Err(skip) => Outcome::Skipped { skip, warnings },
    })
}

fn patch_of(
    pod: &Pod,
    facts: &Facts,
    settings: &Settings,
    warnings: &mut Vec<Warning>,
) -> Result<Patch, Skip> {
    obstacle::before_options(pod)?;
    let mut options = options_of(pod, &settings.options, warnings)?;
    if facts.pod_security == PodSecurity::ForbidsNetAdmin
        && options.interception == Interception::Redirect
    {
        options.interception = Interception::Env;
        warnings.push(Warning::PsaForbidsNetAdmin);
    }
    let workload = facts.workload.clone().or_else(|| Workload::of(pod));
    let sidecar = Sidecar::new(pod, settings, &options, workload.as_ref());
    let variables = proxy_variables::of(&options);
    let status = status(&sidecar, &options, &variables);
    if pod.has_container(PROXY_CONTAINER) {
        return complete(pod, options.placement, &variables, &status, warnings);
    }
    obstacle::before_injection(pod, &options)?;
    let mut patcher = Patcher::default();
    // First, while the containers still are where the pod says.
    proxy_variables::add(&mut patcher, pod, options.placement, &variables, warnings);
    sidecar.add(&mut patcher, pod, options.placement);
    patcher.annotate(pod, &annotations(pod, status));
    Ok(patcher.patch())
}

/// What the injector writes of itself: by the hash one can tell which pods run with other settings than today's.
fn status(sidecar: &Sidecar, options: &Options, variables: &[Variable]) -> String {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "hash": sidecar.hash(variables),
        "native": options.placement == Placement::Native,
        "interception": options.interception.name(),
    })
    .to_string()
}

/// Our sidecar is there already. Another webhook may have added a container since, which does not know of the proxy.
fn complete(
    pod: &Pod,
    placement: Placement,
    variables: &[Variable],
    status: &str,
    warnings: &mut Vec<Warning>,
) -> Result<Patch, Skip> {
    // What was to be said of the pod was said when it was injected.
    warnings.clear();
    let key = format!("{PREFIX}{STATUS_ANNOTATION}");
    match pod.annotation(&key) {
        None => {
            return Err(Skip::SidecarExists {
                what: format!("container {PROXY_CONTAINER}"),
            });
        }
        Some(found) if found != status => {
            warnings.push(Warning::StaleInjection);
            return Err(Skip::AlreadyInjected);
        }
        Some(_) => {}
    }
    let mut patcher = Patcher::default();
    proxy_variables::add(&mut patcher, pod, placement, variables, &mut Vec::new());
    let patch = patcher.patch();
    if patch.is_empty() {
        Err(Skip::AlreadyInjected)
    } else {
        Ok(patch)
    }
}

/// The options of this pod: the settings', changed by its annotations.
fn options_of(pod: &Pod, defaults: &Options, warnings: &mut Vec<Warning>) -> Result<Options, Skip> {
    let mut options = defaults.clone();
    for (key, value) in pod.annotations() {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        if name == STATUS_ANNOTATION {
            continue;
        }
        if name == INJECT_LABEL {
            warnings.push(Warning::LabelAsAnnotation);
            continue;
        }
        match options.set(name, value.unwrap_or_default()) {
            Ok(()) => {}
            Err(error @ OptionError::Unknown { .. }) => {
                warnings.push(Warning::UnknownAnnotation(error));
            }
            // To go on without it could redirect what must not be.
            Err(error) => return Err(Skip::InvalidAnnotation(error)),
        }
    }
    options.check().map_err(Skip::InvalidAnnotation)?;
    Ok(options)
}

/// The annotations that an injected pod gets.
fn annotations(pod: &Pod, status: String) -> Vec<(String, String)> {
    let mut all = vec![(format!("{PREFIX}{STATUS_ANNOTATION}"), status)];
    // So that `kubectl logs` and `kubectl exec` mean the application.
    if pod.annotation(DEFAULT_CONTAINER).is_none() {
        let first = pod.containers().first();
        all.extend(first.map(|first| (DEFAULT_CONTAINER.to_owned(), first.name.clone())));
    }
    // The autoscaler does not remove nodes with local volumes; what is in ours may be lost.
    let evictable = pod.annotation(SAFE_TO_EVICT).unwrap_or_default();
    let names = evictable
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let names: Vec<&str> = names.chain([common::STATE_VOLUME]).collect();
    all.push((SAFE_TO_EVICT.to_owned(), names.join(",")));
    all
}

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";

#[cfg(test)]
mod tests;
