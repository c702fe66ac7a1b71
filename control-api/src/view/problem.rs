//! How the control API says that something is wrong: RFC 9457 problem details.

use serde::{Deserialize, Serialize};

use crate::document::Finding;

/// The body of every error response, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// What kind of problem: `urn:weir:problem:` and a word that does not change.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The response's status, repeated.
    pub status: u16,
    /// What happened this time, and what to do.
    pub detail: String,
    /// Every mistake in a document, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Finding>,
}
