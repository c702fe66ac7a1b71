//! Injects manifests offline: what `kubectl apply` would be given goes in, and the same with sidecars comes out.
//!
//! A document that gets no sidecar comes out byte for byte. One that does is written anew, and loses its comments.

mod split;
mod write;

use control_api::well_known::kubernetes::PREFIX;
use json_patch::PatchError;
use serde_json::Value;

use crate::inject::{Facts, Outcome, PodSecurity, inject};
use crate::settings::Settings;
use crate::workload::Workload;
use split::{Form, documents};

/// What became of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The manifest.
    pub text: String,
    /// A line for each workload, and for each thing that its owner should know.
    pub notes: Vec<String>,
}

/// A manifest that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A document is no YAML.
    #[error("document {number}: {source}")]
    Document {
        /// From 1.
        number: usize,
        /// Why not.
        source: serde_yaml_ng::Error,
    },
    /// A workload's pod is none.
    #[error("document {number}: {workload}: {source}")]
    Pod {
        /// From 1.
        number: usize,
        /// Kind and name.
        workload: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The patch does not fit: a bug of ours.
    #[error("document {number}: {workload}: {source}; please report this")]
    Patch {
        /// From 1.
        number: usize,
        /// Kind and name.
        workload: String,
        /// Why not.
        source: PatchError,
    },
}

/// Kinds with a pod or a template of one: the group of their API, the kind, and where the pod stands.
const WORKLOADS: &[(&str, &str, &str)] = &[
    ("", "Pod", ""),
    ("", "ReplicationController", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("batch", "Job", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
];

/// Injects every workload of `text`, one or many documents of YAML or JSON.
///
/// # Errors
/// [`ManifestError`]; of a manifest that cannot be read as a whole nothing comes out.
pub fn inject_manifest(
    text: &str,
    pod_security: PodSecurity,
    settings: &Settings,
) -> Result<Manifest, ManifestError> {
    let mut injection = Injection {
        pod_security,
        settings,
        number: 0,
        notes: Vec::new(),
    };
    let mut written = String::with_capacity(text.len() * 2);
    for document in documents(text) {
        injection.number += 1;
        let number = injection.number;
        let mut value = document
            .parse()
            .map_err(|source| ManifestError::Document { number, source })?;
        if injection.visit(&mut value)? {
            write::octal_modes(&mut value);
            written.push_str(document.separator());
            match document.form() {
                Form::Yaml => write::yaml(&value, &mut written),
                Form::Json => write::json(&value, &mut written),
            }
        } else {
            written.push_str(document.text);
        }
    }
    Ok(Manifest {
        text: written,
        notes: injection.notes,
    })
}

/// Every object of `text`, those of lists among them.
///
/// # Errors
/// [`ManifestError::Document`]
pub(crate) fn objects(text: &str) -> Result<Vec<Value>, ManifestError> {
    let mut all = Vec::new();
    for (number, document) in (1..).zip(documents(text)) {
        let object = document
            .parse()
            .map_err(|source| ManifestError::Document { number, source })?;
        flatten(object, &mut all);
    }
    Ok(all)
}

/// An object, or those of a list. The objects of a `PodList` need not say that they are pods. Lists are no deeper in each other
/// than readers follow.
fn flatten(mut object: Value, all: &mut Vec<Value>) {
    let kind = field(&object, "/kind")
        .strip_suffix("List")
        .map(str::to_owned);
    let Some((kind, Value::Array(items))) =
        kind.and_then(|kind| Some((kind, object.get_mut("items")?.take())))
    else {
        return all.push(object);
    };
    let version = field(&object, "/apiVersion").to_owned();
    for mut item in items {
        if let (Some(item), false) = (item.as_object_mut(), kind.is_empty()) {
            item.entry("kind").or_insert_with(|| kind.clone().into());
            item.entry("apiVersion")
                .or_insert_with(|| version.clone().into());
        }
        flatten(item, all);
    }
}

struct Injection<'a> {
    pod_security: PodSecurity,
    settings: &'a Settings,
    /// Of the document, from 1.
    number: usize,
    notes: Vec<String>,
}

impl Injection<'_> {
    /// Injects an object, or those of a list. Whether there was a change.
    fn visit(&mut self, object: &mut Value) -> Result<bool, ManifestError> {
        if field(object, "/kind") == "List" {
            let items = object.get_mut("items").and_then(Value::as_array_mut);
            let mut changed = false;
            for item in items.into_iter().flatten() {
                // A list of lists is none that kubectl takes.
                changed |= self.workload(item)?;
            }
            return Ok(changed);
        }
        self.workload(object)
    }

    fn workload(&mut self, object: &mut Value) -> Result<bool, ManifestError> {
        let group = match field(object, "/apiVersion").split_once('/') {
            Some((group, _version)) => group,
            None => "",
        };
        let kind = field(object, "/kind");
        let known = WORKLOADS
            .iter()
            .find(|(of_group, of_kind, _)| (*of_group, *of_kind) == (group, kind));
        let Some((_, kind, place)) = known else {
            return Ok(false);
        };
        let name = field(object, "/metadata/name").to_owned();
        let disabled = field(object, &format!("/metadata/labels/{}", label())) == "disabled";
        let workload = format!("{kind}/{name}");
        if disabled {
            self.notes.push(format!("{workload}: injection_disabled"));
            return Ok(false);
        }
        let Some(pod) = object.pointer_mut(place) else {
            return Ok(false);
        };
        let facts = Facts {
            // A pod by itself may say who made it.
            workload: (!place.is_empty()).then(|| Workload::new(kind, &name)),
            pod_security: self.pod_security,
        };
        self.pod(pod, &facts, workload)
    }

    fn pod(
        &mut self,
        pod: &mut Value,
        facts: &Facts,
        workload: String,
    ) -> Result<bool, ManifestError> {
        let number = self.number;
        let outcome = match inject(pod, facts, self.settings) {
            Ok(outcome) => outcome,
            Err(source) => {
                return Err(ManifestError::Pod {
                    number,
                    workload,
                    source,
                });
            }
        };
        self.notes.push(format!("{workload}: {}", outcome.code()));
        let texts = outcome.texts();
        self.notes
            .extend(texts.iter().map(|text| format!("{workload}: {text}")));
        let Outcome::Injected { patch, .. } = outcome else {
            return Ok(false);
        };
        match json_patch::patch(pod, &patch) {
            Ok(()) => Ok(true),
            Err(source) => Err(ManifestError::Patch {
                number,
                workload,
                source,
            }),
        }
    }
}

/// The text at `pointer`; empty where there is none.
pub(crate) fn field<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Our label as a token of a JSON pointer.
pub(crate) fn label() -> String {
    format!("{PREFIX}{}", crate::options::INJECT_LABEL).replace('/', "~1")
}

#[cfg(test)]
mod tests;
