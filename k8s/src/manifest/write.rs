//! Writes YAML that a reader of YAML 1.1 understands as well, which is what Kubernetes' tools are.
//!
//! To them a bare `yes`, `on` or `1_000` is no text. A text is written bare only where no reader could take it for
//! anything else.

use std::fmt::Write as _;

use serde_json::Value;

/// Writes a document as YAML, in blocks.
pub(super) fn yaml(value: &Value, into: &mut String) {
    block(value, 0, into);
}

/// Writes a document as JSON.
pub(super) fn json(value: &Value, into: &mut String) {
    let written = writeln!(into, "{value:#}");
    debug_assert!(written.is_ok(), "a string takes all");
}

/// Turns file modes such as `0644`, which YAML 1.1 reads as a number to the base 8 and our reader as a text, into numbers.
pub(super) fn octal_modes(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let digits = member.as_str().and_then(|text| text.strip_prefix('0'));
                let mode = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
                match mode.filter(|_| name == "mode" || name == "defaultMode") {
                    Some(mode) => *member = mode.into(),
                    None => octal_modes(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(octal_modes),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Writes a value whose first line begins where the text is now.
fn block(value: &Value, indent: usize, into: &mut String) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (place, (name, member)) in members.iter().enumerate() {
                start_line(place, indent, into);
                word(name, into);
                into.push(':');
                match member {
                    // A list may stand as deep as its name, and usually does.
                    Value::Array(items) if !items.is_empty() => below(member, indent, into),
                    Value::Object(members) if !members.is_empty() => {
                        below(member, indent + 2, into);
                    }
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_)
                    | Value::Object(_) => {
                        into.push(' ');
                        block(member, indent, into);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (place, item) in items.iter().enumerate() {
                start_line(place, indent, into);
                into.push_str("- ");
                block(item, indent + 2, into);
            }
        }
        Value::String(content) => {
            text(content, indent, into);
            into.push('\n');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Array(_) => {
            into.push_str(&value.to_string());
            into.push('\n');
        }
    }
}

fn below(value: &Value, indent: usize, into: &mut String) {
    into.push('\n');
    start_line(1, indent, into);
    block(value, indent, into);
}

/// Every line but the first of a block has to be indented.
fn start_line(place: usize, indent: usize, into: &mut String) {
    if place > 0 {
        into.extend(std::iter::repeat_n(' ', indent));
    }
}

/// Writes a text: as a block of lines where it has several, else as a word.
fn text(content: &str, indent: usize, into: &mut String) {
    let Some((lines, start)) = as_lines(content) else {
        return word(content, into);
    };
    into.push_str(start);
    for line in lines.split('\n') {
        into.push('\n');
        if !line.is_empty() {
            into.extend(std::iter::repeat_n(' ', indent + 2));
            into.push_str(line);
        }
    }
}

/// Writes a text bare, or in quotes as JSON has it, which YAML reads the same.
fn word(content: &str, into: &mut String) {
    if is_unmistakable(content) {
        return into.push_str(content);
    }
    for letter in Value::from(content).to_string().chars() {
        // YAML takes fewer letters as they are than JSON (YAML 1.2.2 §5.1).
        match letter {
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                let written = write!(into, "\\u{:04x}", u32::from(letter));
                debug_assert!(written.is_ok(), "a string takes all");
            }
            _ => into.push(letter),
        }
    }
}

/// Whether no reader takes the text for anything but a text.
fn is_unmistakable(content: &str) -> bool {
    let word = content.to_ascii_lowercase();
    let first = content.bytes().next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-:@".contains(&byte);
    (first.is_ascii_alphabetic() || first == b'/')
        && content.bytes().all(plain)
        && !content.ends_with(':')
        && !NOT_TEXTS.contains(&word.as_str())
}

/// The lines of a script or a file, and how the block begins. None: they would not all come back.
fn as_lines(content: &str) -> Option<(&str, &'static str)> {
    let (lines, start) = match content.strip_suffix('\n') {
        Some(lines) => (lines, "|"),
        None => (content, "|-"),
    };
    let printable = |c: char| c == '\n' || (c.is_ascii() && !c.is_ascii_control());
    let begins_well = lines
        .chars()
        .next()
        .is_some_and(|c| !c.is_ascii_whitespace());
    let fits = lines.contains('\n')
        && begins_well
        && !lines.ends_with('\n')
        && lines.chars().all(printable)
        && !lines.split('\n').any(|line| line.ends_with(' '));
    fits.then_some((lines, start))
}

/// What YAML 1.1 takes for a truth value, or for nothing.
const NOT_TEXTS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
