//! Splits a stream into its documents, and keeps their text.

use serde::de::Error as _;
use serde_json::Value;

/// One document of a stream, with the line that separates it from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
}

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Yaml,
    Json,
}

/// The documents of `text`, which put together are `text` again.
///
/// `---` at the start of a line is a separator wherever it stands, also in a block of text (YAML 1.2.2 §9.1.2).
pub(super) fn documents(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest
            .match_indices("\n---")
            .map(|(place, _)| place + 1)
            .find(|place| rest.get(*place..).is_some_and(is_separator));
        let (document, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(Document { text: document })
    })
}

/// Whether a text starts with a separator.
fn is_separator(text: &str) -> bool {
    text.strip_prefix(SEPARATOR)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

impl<'a> Document<'a> {
    /// The value, with YAML's merges (`<<`) done.
    pub(super) fn parse(self) -> Result<Value, serde_yaml_ng::Error> {
        if self.form() == Form::Json {
            match serde_json::from_str(self.body()) {
                Ok(value) => return Ok(value),
                // YAML's reader takes for ever over what is nested as deep as that.
                Err(error) if self.is_deep() => return Err(serde_yaml_ng::Error::custom(error)),
                // YAML that only looks like JSON.
                Err(_) => {}
            }
        }
        let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(self.text)?;
        value.apply_merge()?;
        serde_yaml_ng::from_value(value)
    }

    /// Whether brackets stand in each other deeper than readers follow; those in texts count too.
    fn is_deep(self) -> bool {
        let mut depth = 0_usize;
        self.text.bytes().any(|byte| {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth > DEPTH_MAX
        })
    }

    /// The text without the separator.
    fn body(self) -> &'a str {
        let rest = self.text.strip_prefix(SEPARATOR);
        rest.filter(|_| is_separator(self.text))
            .unwrap_or(self.text)
    }

    /// The line that it begins with, if that is a separator.
    pub(super) fn separator(self) -> &'a str {
        if !is_separator(self.text) {
            return "";
        }
        "---\n"
    }

    pub(super) fn form(self) -> Form {
        if self.body().trim_start().starts_with('{') {
            Form::Json
        } else {
            Form::Yaml
        }
    }
}

const SEPARATOR: &str = "---";

/// Depth beyond which broken JSON is not tried as YAML. JSON's reader follows as far.
const DEPTH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_together_are_the_stream() {
        for (stream, count) in [
            ("", 0),
            ("a: 1\n", 1),
            ("---\na: 1\n---\nb: 2\n--- # c\nc: 3", 3),
            ("a: |\n  ---\n---\r\nb: ----\n----\n", 2),
            ("---", 1),
        ] {
            let texts: Vec<&str> = documents(stream).map(|document| document.text).collect();
            assert_eq!(texts.concat(), stream);
            assert_eq!(texts.len(), count, "{stream}");
        }
    }

    #[test]
    fn json_yaml_that_looks_like_it_and_endless_nesting_are_told_apart() {
        let parse = |text: &str| Document { text }.parse();
        let value = serde_json::json!({"a": [1]});
        assert_eq!(parse(r#"{"a": [1]}"#).unwrap(), value);
        assert_eq!(parse("{a: [1]}").unwrap(), value);
        let many = format!("{{a: [{}]}}", "[],".repeat(200));
        assert_eq!(parse(&many).unwrap()["a"].as_array().unwrap().len(), 200);
        for separator in ["", "---\n"] {
            let deep = separator.to_owned() + &r#"{"a":"#.repeat(100_000);
            let error = parse(&deep).unwrap_err();
            assert!(error.to_string().contains("recursion limit"), "{error}");
        }
    }

    #[test]
    fn merges_are_done() {
        let document = Document {
            text: "a: &a {b: 1}\nc: {<<: *a, d: 2}\n",
        };
        let value = document.parse().unwrap();
        assert_eq!(value["c"], serde_json::json!({"b": 1, "d": 2}));
    }
}
