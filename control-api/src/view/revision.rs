//! Revisions of the policy: where they came from, and what became of attempts to write one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::document::{Change, Finding};

/// Where a revision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Nobody wrote a policy yet.
    #[default]
    BuiltIn,
    /// The policy file.
    File,
    /// The control API.
    Api,
}

impl Origin {
    /// The origin's name in JSON, metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One write of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Revision {
    /// Its number; also the policy's entity tag.
    pub revision: u64,
    /// Where it came from.
    pub origin: Origin,
    /// When it was written.
    pub at: Timestamp,
    /// The user who wrote it through the control API's socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author_uid: Option<u32>,
    /// The revision whose document it brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<u64>,
    /// Whether it is the one in force.
    pub current: bool,
}

/// What a write of the policy did, or would do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Applied {
    /// The revision now in force.
    pub revision: u64,
    /// Whether nothing was written, as asked.
    pub dry_run: bool,
    /// What differs from the revision that was in force before.
    pub changes: Vec<Change>,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<Finding>,
}

/// The policy that is in force, and how writes of it went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// The revision in force.
    #[serde(flatten)]
    pub revision: Revision,
    /// How many writes were accepted and rejected since the proxy started.
    pub updates: Updates,
    /// The last write that was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rejection: Option<Rejection>,
    /// How often the policy could not be kept on disk.
    pub save_failures: u64,
}

/// Writes by their origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Updates {
    /// From the policy file.
    pub file: UpdateCounts,
    /// From the control API.
    pub api: UpdateCounts,
}

/// Writes by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateCounts {
    /// Put into force.
    pub accepted: u64,
    /// Refused; the policy before stayed.
    pub rejected: u64,
}

/// A write that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rejection {
    /// When.
    pub at: Timestamp,
    /// From where.
    pub origin: Origin,
    /// Every reason, one a line.
    pub detail: String,
}
