//! Walks a JSON value and collects every mistake, each with its JSON pointer.
//!
//! Readers answer `None` after a mistake and go on, so that one look at a document tells its author everything.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::{Finding, Findings};

/// A value in a document, and the way there.
pub(super) struct Node<'a> {
    value: &'a Value,
    pointer: String,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self {
            value,
            pointer: String::new(),
        }
    }

    pub(super) fn pointer(&self) -> &str {
        &self.pointer
    }

    /// The value as the document's author knows it, shortened to what fits into a line.
    pub(super) fn shown(&self) -> String {
        match self.value {
            Value::Object(_) => "an object".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::String(text) => shortened(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => self.value.to_string(),
        }
    }

    /// Says that the value is not `expected`.
    pub(super) fn is_not(&self, expected: impl Display, findings: &mut Findings) {
        findings.push(&self.pointer, format!("{} is not {expected}", self.shown()));
    }

    /// The value's fields; those that are not among `known` are mistakes.
    pub(super) fn fields(
        &self,
        known: &[&'static str],
        findings: &mut Findings,
    ) -> Option<Fields<'a>> {
        let Value::Object(map) = self.value else {
            self.is_not(
                format_args!("an object with any of {}", known.join(", ")),
                findings,
            );
            return None;
        };
        for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
            findings.push_with(|| Finding {
                pointer: child(&self.pointer, name),
                detail: unknown_field(name, known),
            });
        }
        Some(Fields {
            map,
            pointer: self.pointer.clone(),
        })
    }

    /// The members of a list of at most `most`.
    pub(super) fn items(&self, most: usize, findings: &mut Findings) -> Option<Vec<Node<'a>>> {
        let Value::Array(list) = self.value else {
            self.is_not("a list", findings);
            return None;
        };
        if list.len() > most {
            findings.push(
                &self.pointer,
                format!("{} members are more than the maximum of {most}", list.len()),
            );
            return None;
        }
        let node = |(index, value)| Node {
            value,
            pointer: format!("{}/{index}", self.pointer),
        };
        Some(list.iter().enumerate().map(node).collect())
    }

    /// The value's text, if it is text.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// The value as it would be written: text or number.
    pub(super) fn scalar(&self) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Whether the value is exactly this word.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.text() == Some(word)
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn is_bool(&self) -> bool {
        self.value.is_boolean()
    }

    /// A whole number within `range`.
    pub(super) fn integer(
        &self,
        range: RangeInclusive<u32>,
        findings: &mut Findings,
    ) -> Option<u32> {
        let Some(number) = self.value.as_number().filter(|number| !number.is_f64()) else {
            self.is_not(
                format_args!(
                    "a whole number between {} and {}",
                    range.start(),
                    range.end()
                ),
                findings,
            );
            return None;
        };
        // What does not fit is either negative, or above every maximum.
        let value = match number.as_i64() {
            Some(value) if value < 0 => None,
            _ => Some(
                number
                    .as_u64()
                    .and_then(|value| u32::try_from(value).ok())
                    .unwrap_or(u32::MAX),
            ),
        };
        within(value, range, number, &self.pointer, findings)
    }

    /// One of the words that `word` gives for `choices`.
    pub(super) fn one_of<T: Copy>(
        &self,
        choices: &[T],
        word: impl Fn(T) -> &'static str,
        findings: &mut Findings,
    ) -> Option<T> {
        let found = self
            .scalar()
            .and_then(|text| choices.iter().find(|&&choice| word(choice) == text));
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|&choice| word(choice)).collect();
            let hint = if self.is_bool() {
                "; some YAML readers take a bare on or off for a boolean: write it in quotes"
            } else {
                ""
            };
            findings.push(
                &self.pointer,
                format!("{} is none of {}{hint}", self.shown(), words.join(", ")),
            );
        }
        found.copied()
    }
}

/// The fields of an object, all of them known.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
}

impl<'a> Fields<'a> {
    /// The field's value; an explicit null is the same as no field, as YAML writes an empty one so.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(Node {
            value,
            pointer: child(&self.pointer, name),
        })
    }

    /// What `read` makes of the field; None without the field, and after a mistake.
    pub(super) fn read<T>(
        &self,
        name: &str,
        findings: &mut Findings,
        read: impl FnOnce(&Node<'a>, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        self.get(name).and_then(|node| read(&node, findings))
    }
}

/// Checks a value against its bounds; `None` stands for below all of them.
pub(super) fn within<T: PartialOrd + Copy + Display>(
    value: Option<T>,
    range: RangeInclusive<T>,
    shown: impl Display,
    pointer: &str,
    findings: &mut Findings,
) -> Option<T> {
    match value {
        Some(value) if range.contains(&value) => Some(value),
        Some(value) if value > *range.end() => {
            let detail = format!("{shown} is above the maximum of {}", range.end());
            findings.push(pointer, detail);
            None
        }
        _ => {
            let detail = format!("{shown} is below the minimum of {}", range.start());
            findings.push(pointer, detail);
            None
        }
    }
}

/// A text that fits into a message.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// RFC 6901 §3: `~` and `/` are escaped.
fn child(pointer: &str, name: &str) -> String {
    let name: String = name.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn unknown_field(name: &str, known: &[&'static str]) -> String {
    if name == "true" && known.contains(&"on") {
        return "unknown field; some YAML readers take a bare on for true: write \"on\" in quotes"
            .to_owned();
    }
    match nearest(name, known) {
        Some(right) => format!("unknown field; did you mean {right}?"),
        None => format!("unknown field; expected one of {}", known.join(", ")),
    }
}

/// The known name that `name` probably stands for.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let name = plain(&name.chars().take(SHOWN_CHARS_MAX).collect::<String>());
    let (distance, right) = known
        .iter()
        .map(|right| (edits(&name, &plain(right)), *right))
        .min()?;
    (distance <= right.len().div_ceil(3)).then_some(right)
}

/// Levenshtein distance: insertions, deletions and substitutions from one text to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for ((b, diagonal), above) in to.iter().zip(&row).zip(row.iter().skip(1)) {
            let substituted = diagonal + usize::from(a != *b);
            left = substituted.min(left + 1).min(above + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Longest part of an input that a message repeats, in characters.
const SHOWN_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("flaw", "lawn"), 2);
        assert_eq!(edits("same", "same"), 0);
    }

    #[test]
    fn the_nearest_name_is_offered_if_it_is_near() {
        let known = ["mode", "deadline", "attemptTimeout"];
        assert_eq!(nearest("attempt_timeout", &known), Some("attemptTimeout"));
        assert_eq!(nearest("deadlin", &known), Some("deadline"));
        assert_eq!(nearest("colour", &known), None);
    }
}
