//! What differs between two documents, and how a merge patch makes one from another.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One difference between two JSON values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// JSON pointer (RFC 6901) to what differs.
    pub pointer: String,
    /// What stands there before. None: nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<Value>,
    /// What stands there after. None: nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<Value>,
}

/// Every difference, in the order of the documents: what is gone or changed first, then what is new.
///
/// Lists are compared place by place.
#[must_use]
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare(String::new(), Some(before), Some(after), &mut found);
    found
}

fn compare(
    pointer: String,
    before: Option<&Value>,
    after: Option<&Value>,
    found: &mut Vec<Change>,
) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                compare(
                    format!("{pointer}/{escaped}"),
                    old.get(name),
                    new.get(name),
                    found,
                );
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(
                    format!("{pointer}/{index}"),
                    old.get(index),
                    new.get(index),
                    found,
                );
            }
        }
        _ => found.push(Change {
            pointer,
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

/// Applies a JSON merge patch (RFC 7396 §2): objects are merged, null removes, everything else replaces.
#[must_use]
pub fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut merged = match target {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    };
    for (name, value) in patch {
        if value.is_null() {
            merged.shift_remove(name);
        } else {
            let old = merged.get_mut(name).map(Value::take);
            merged.insert(name.clone(), merge_patch(old.unwrap_or_default(), value));
        }
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_patches_work_as_the_examples_of_rfc_7396() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!([1, 2]),
                json!({"a": "b", "c": null}),
                json!({"a": "b"}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ];
        for (target, patch, expected) in cases {
            assert_eq!(merge_patch(target, &patch), expected, "{patch}");
        }
    }

    #[test]
    fn every_difference_is_listed_with_its_place() {
        let before = json!({"a": 1, "b": {"c/d": 2}, "l": [1, 2]});
        let after = json!({"b": {"c/d": 3}, "l": [1], "n": null});
        let found: Vec<String> = changes(&before, &after)
            .iter()
            .map(|change| serde_json::to_string(change).unwrap())
            .collect();
        assert_eq!(
            found,
            [
                r#"{"pointer":"/a","before":1}"#,
                r#"{"pointer":"/b/c~1d","before":2,"after":3}"#,
                r#"{"pointer":"/l/1","before":2}"#,
                r#"{"pointer":"/n","after":null}"#,
            ]
        );
    }
}
