//! Prints results: for people, or as JSON or YAML.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::Failure;
use crate::arguments::Format;

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// None: for people.
    format: Option<Format>,
}

impl Output {
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self { format }
    }

    /// The same, but in this format where none was asked for.
    pub(crate) fn or(self, format: Format) -> Self {
        Self::new(self.format.or(Some(format)))
    }

    /// Whether texts for people are printed.
    #[cfg(feature = "fleet")]
    pub(crate) fn is_for_people(self) -> bool {
        self.format.is_none()
    }

    /// Prints one result; `show` makes the text for people, with its final newline.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        show: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            None => printable(&show(value)),
            Some(Format::Json) => serde_json::to_string_pretty(value)? + "\n",
            Some(Format::Yaml) => serde_yaml_ng::to_string(value)?,
        };
        write(&text)
    }

    /// Prints one of many results that come over time, each on its own.
    pub(crate) fn print_next<T: Serialize>(
        self,
        value: &T,
        show: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            None => printable(&show(value)),
            Some(Format::Json) => serde_json::to_string(value)? + "\n",
            Some(Format::Yaml) => format!("---\n{}", serde_yaml_ng::to_string(value)?),
        };
        write(&text)
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// The text without characters that would command a terminal: names of destinations come from outside.
pub(crate) fn printable(text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(harmless).collect()
}
