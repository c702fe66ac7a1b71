//! What is wrong with a document, and where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The document is larger than any policy needs to be.
    #[error("the document is too large: {0}")]
    TooLarge(String),
    /// The text is neither YAML nor JSON; with the line and column where the parser gave up.
    #[error("not valid {format}: {detail}")]
    Syntax {
        /// `YAML` or `JSON`.
        format: &'static str,
        /// What the parser said, with line and column.
        detail: String,
    },
    /// The text can be read, but its contents are wrong; every mistake in the document's order.
    #[error("{}", Lines(.0))]
    Invalid(Vec<Finding>),
}

impl DocumentError {
    /// Every mistake; none where the text as a whole could not be read.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::TooLarge(_) | Self::Syntax { .. } => &[],
            Self::Invalid(findings) => findings,
        }
    }
}

/// One mistake, or one warning: a place in a document, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// JSON pointer (RFC 6901); empty for the document itself.
    pub pointer: String,
    /// What is wrong, and what was expected.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() {
            "document"
        } else {
            &self.pointer
        };
        write!(f, "{place}: {}", self.detail)
    }
}

/// Collects mistakes, of which it keeps the first [`FINDINGS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    left_out: usize,
}

impl Findings {
    pub(super) fn push(&mut self, pointer: &str, detail: impl Into<String>) {
        self.push_with(|| Finding {
            pointer: pointer.to_owned(),
            detail: detail.into(),
        });
    }

    /// The same for a mistake that costs something to describe: that is left out with it.
    pub(super) fn push_with(&mut self, finding: impl FnOnce() -> Finding) {
        if self.kept.len() < FINDINGS_MAX {
            self.kept.push(finding());
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn into_vec(mut self) -> Vec<Finding> {
        if self.left_out > 0 {
            self.kept.push(Finding {
                pointer: String::new(),
                detail: format!("{} more mistakes", self.left_out),
            });
        }
        self.kept
    }
}

struct Lines<'a>(&'a [Finding]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

/// More mistakes than a person reads at once; bounds what a hostile document makes us remember.
const FINDINGS_MAX: usize = 100;
