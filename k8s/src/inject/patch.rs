//! Collects the operations of a JSON patch (RFC 6902).

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Map, Value};

use crate::pod::Pod;

/// A patch in the making. It only ever adds.
#[derive(Debug, Default)]
pub(super) struct Patcher(Vec<PatchOperation>);

impl Patcher {
    pub(super) fn patch(self) -> Patch {
        Patch(self.0)
    }

    /// Adds a member, or inserts into a list before the place that the path ends with.
    fn add(&mut self, path: &[&str], value: Value) {
        self.0.push(PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(path.iter().copied()),
            value,
        }));
    }

    /// Appends to the list at `path`, which is made where there is none.
    pub(super) fn append(&mut self, path: &[&str], exists: bool, values: Vec<Value>) {
        if values.is_empty() {
            return;
        }
        if !exists {
            return self.add(path, Value::Array(values));
        }
        let end = [path, &["-"]].concat();
        for value in values {
            self.add(&end, value);
        }
    }

    /// Puts `values` before all others of the list at `path`, which is made where there is none.
    pub(super) fn prepend(&mut self, path: &[&str], exists: bool, values: Vec<Value>) {
        if !exists {
            return self.append(path, exists, values);
        }
        for (place, value) in values.into_iter().enumerate() {
            self.add(&[path, &[&place.to_string()]].concat(), value);
        }
    }

    /// Sets annotations.
    pub(super) fn annotate(&mut self, pod: &Pod, annotations: &[(String, String)]) {
        let metadata = pod.metadata.as_ref();
        let all = || {
            let text = |(key, value): &(String, String)| (key.clone(), Value::from(value.clone()));
            Value::Object(annotations.iter().map(text).collect::<Map<_, _>>())
        };
        match metadata.map(|metadata| metadata.annotations.is_some()) {
            None => self.add(&["metadata"], serde_json::json!({"annotations": all()})),
            Some(false) => self.add(&["metadata", "annotations"], all()),
            Some(true) => {
                for (key, value) in annotations {
                    self.add(&["metadata", "annotations", key], value.clone().into());
                }
            }
        }
    }
}
