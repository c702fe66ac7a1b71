//! Reads YAML or JSON text into a JSON value, within bounds.
//!
//! The text may come from anybody who may write a policy, by mistake a wrong file: its size, its depth, its number of
//! values and what its YAML aliases expand to are all bounded before anything looks at its meaning.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::DocumentError;

/// Largest document, in bytes of text.
pub const BYTES_MAX: usize = 1024 * 1024;

/// Reads JSON or YAML.
///
/// A brace before a quote is read as JSON only: almost all JSON is YAML too, but JSON's errors are clearer.
///
/// # Errors
/// [`DocumentError::TooLarge`] or [`DocumentError::Syntax`]; what the value means is not looked at.
pub fn text_value(text: &str) -> Result<Value, DocumentError> {
    let json = text
        .trim_start()
        .strip_prefix('{')
        .is_some_and(|rest| rest.trim_start().starts_with('"'));
    if json {
        json_value(text)
    } else {
        yaml_value(text)
    }
}

/// Reads JSON, and nothing but JSON: names that occur twice in an object are refused.
///
/// # Errors
/// [`DocumentError::TooLarge`] or [`DocumentError::Syntax`].
pub fn json_value(text: &str) -> Result<Value, DocumentError> {
    check_size(text)?;
    let bounds = Bounds::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    bounds
        .root()
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| bounds.explain("JSON", error.to_string()))
}

fn yaml_value(text: &str) -> Result<Value, DocumentError> {
    check_size(text)?;
    check_yaml_shape(text)?;
    let bounds = Bounds::default();
    bounds
        .root()
        .deserialize(serde_yaml_ng::Deserializer::from_str(text))
        .map_err(|error| bounds.explain("YAML", error.to_string()))
}

fn check_size(text: &str) -> Result<(), DocumentError> {
    if text.len() > BYTES_MAX {
        return Err(DocumentError::TooLarge(format!(
            "{} bytes, where {BYTES_MAX} are allowed",
            text.len()
        )));
    }
    Ok(())
}

/// Refuses what the YAML scanner itself would choke on, before it sees it.
///
/// The scanner's time grows with the square of the flow depth and it keeps every event, so brackets are counted here,
/// wherever they stand: no policy has thousands of them, not even in its strings.
fn check_yaml_shape(text: &str) -> Result<(), DocumentError> {
    let mut depth: usize = 0;
    let mut tokens: usize = 0;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'?' | b':' | b',' | b'&' | b'*' | b'\n' => {}
            _ => continue,
        }
        tokens += 1;
        if depth > FLOW_DEPTH_MAX || tokens > TOKENS_MAX {
            return Err(DocumentError::TooLarge(
                "more YAML brackets, dashes, colons and lines than any policy needs".to_owned(),
            ));
        }
    }
    Ok(())
}

/// What is left of the bounds while a text is read.
struct Bounds {
    values: Cell<usize>,
    string_bytes: Cell<usize>,
    exceeded: Cell<Option<&'static str>>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            values: Cell::new(VALUES_MAX),
            string_bytes: Cell::new(BYTES_MAX),
            exceeded: Cell::new(None),
        }
    }
}

impl Bounds {
    fn root(&self) -> Seed<'_> {
        Seed {
            bounds: self,
            depth: DEPTH_MAX,
        }
    }

    fn take<E: Error>(
        &self,
        left: &Cell<usize>,
        count: usize,
        what: &'static str,
    ) -> Result<(), E> {
        if let Some(rest) = left.get().checked_sub(count) {
            left.set(rest);
            return Ok(());
        }
        self.exceeded.set(Some(what));
        Err(E::custom(what))
    }

    fn string<E: Error>(&self, text: &str) -> Result<String, E> {
        self.take(
            &self.string_bytes,
            text.len(),
            "its text, aliases expanded, is too long",
        )?;
        Ok(text.to_owned())
    }

    fn explain(&self, format: &'static str, detail: String) -> DocumentError {
        match self.exceeded.get() {
            Some(what) => DocumentError::TooLarge(what.to_owned()),
            None => DocumentError::Syntax { format, detail },
        }
    }
}

/// Reads one value, and those inside it.
#[derive(Clone, Copy)]
struct Seed<'a> {
    bounds: &'a Bounds,
    depth: usize,
}

impl Seed<'_> {
    fn inner<E: Error>(self) -> Result<Self, E> {
        if let Some(depth) = self.depth.checked_sub(1) {
            return Ok(Self { depth, ..self });
        }
        let what = "it is nested too deeply";
        self.bounds.exceeded.set(Some(what));
        Err(E::custom(what))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.bounds.take(
            &self.bounds.values,
            1,
            "it has more values than any policy needs",
        )?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can express")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number has to be finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.bounds.string(value).map(Value::String)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key_seed(Key(inner.bounds))? {
            let value = entries.next_value_seed(inner)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("{key} is given twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Reads an object's key; YAML also knows numbers and booleans as keys, whose text is taken.
struct Key<'a>(&'a Bounds);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        self.0.string(value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

/// Most values in a document, aliases expanded. A route has about 30, so this is more than routes are allowed.
const VALUES_MAX: usize = 100_000;
/// Deepest nesting of values; the document itself needs six.
const DEPTH_MAX: usize = 32;
/// Deepest nesting of YAML brackets.
const FLOW_DEPTH_MAX: usize = 64;
/// Most characters that may start a YAML token.
const TOKENS_MAX: usize = 200_000;
