//! Remembers revisions, within bounds.

use std::collections::VecDeque;

use super::{Active, Written};
use crate::document::Document;
use crate::view::Revision;

/// The latest revisions, the one in force among them.
#[derive(Debug)]
pub(super) struct History {
    /// The oldest first; never empty.
    entries: VecDeque<Entry>,
    /// Sum of the entries' texts, in bytes.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    revision: u64,
    written: Written,
    /// Canonical JSON: a tenth of what the parsed document takes.
    text: String,
}

impl History {
    pub(super) fn starting_with(active: &Active) -> Self {
        let mut history = Self {
            entries: VecDeque::new(),
            bytes: 0,
        };
        history.push(active);
        history
    }

    /// Remembers a revision, and forgets the oldest ones where there are too many.
    pub(super) fn push(&mut self, active: &Active) {
        let text = active.document.to_value().to_string();
        self.bytes += text.len();
        self.entries.push_back(Entry {
            revision: active.revision,
            written: active.written,
            text,
        });
        while self.entries.len() > ENTRIES_MAX || (self.bytes > BYTES_MAX && self.entries.len() > 1)
        {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.text.len();
            }
        }
    }

    pub(super) fn revisions(&self, current: u64) -> Vec<Revision> {
        self.entries
            .iter()
            .map(|entry| view(entry.revision, entry.written, current))
            .collect()
    }

    pub(super) fn document(&self, revision: u64) -> Option<Document> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.revision == revision)?;
        serde_json::from_str(&entry.text).ok()
    }
}

/// A revision as the API shows it.
pub(super) fn revision(active: &Active, current: u64) -> Revision {
    view(active.revision, active.written, current)
}

fn view(revision: u64, written: Written, current: u64) -> Revision {
    Revision {
        revision,
        origin: written.origin,
        at: written.at,
        author_uid: written.author_uid,
        rollback_of: written.rollback_of,
        current: revision == current,
    }
}

/// Most revisions that are remembered.
const ENTRIES_MAX: usize = 50;
/// Most bytes of canonical JSON that are remembered; a common policy has two thousand.
const BYTES_MAX: usize = 4 * 1024 * 1024;
