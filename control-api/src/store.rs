//! Keeps the policy: the revision in force, those before it, and the last good one on disk.
//!
//! Writing is parse, compile, swap. Whatever fails on the way leaves the policy as it was. The data plane reads the
//! revision in force with [`Store::current`], once a call; nothing on that path waits for a writer.

mod file_watch;
mod history;
mod last_good;
mod tally;
#[cfg(test)]
mod tests;

pub use file_watch::FileWatch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::document::{Change, Document, DocumentError, changes};
use crate::policy::{Mode, Policy};
use crate::view::{Origin, PolicyStatus, Revision, Timestamp};
use history::History;
use last_good::LastGood;
use tally::Tally;

/// The policy in force.
#[derive(Debug, Clone)]
pub struct Active {
    /// What the data plane reads.
    pub policy: Policy,
    /// Number of the revision, from 1.
    pub revision: u64,
    /// Where the revision came from, when, and by whom.
    pub written: Written,
    /// What the policy was compiled from.
    pub document: Document,
}

/// Where a revision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// By which way.
    pub origin: Origin,
    /// When.
    pub at: Timestamp,
    /// The user who wrote it through the control API's socket.
    pub author_uid: Option<u32>,
    /// The revision whose document it brought back.
    pub rollback_of: Option<u64>,
}

impl Written {
    /// Now, by this way.
    #[must_use]
    pub fn now(origin: Origin) -> Self {
        Self {
            origin,
            at: Timestamp::now(),
            author_uid: None,
            rollback_of: None,
        }
    }
}

/// What a writer expects to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is in force.
    Anything,
    /// This revision.
    Revision(u64),
}

/// The write came too late: another revision is in force than the writer expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {current} is in force")]
pub struct Stale {
    /// The revision in force.
    pub current: u64,
}

/// What a write did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The policy in force after it. A document equal to the one before makes no new revision.
    pub active: Arc<Active>,
    /// What differs from the policy before it.
    pub changes: Vec<Change>,
}

/// Where policies come from and where they are kept, besides the control API, and what holds where they are silent.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The policy file.
    pub file: Option<PathBuf>,
    /// The directory in which the last good policy is kept.
    pub state_dir: Option<PathBuf>,
    /// The mode of calls of which a policy says none, whichever way the policy came.
    pub mode: Mode,
}

/// Keeps the policy.
#[derive(Debug)]
pub struct Store {
    active: ArcSwap<Active>,
    /// Held by every writer, so that revisions have an order.
    history: Mutex<History>,
    revisions: watch::Sender<u64>,
    last_good: Option<LastGood>,
    /// Of calls of which a policy says none.
    mode: Mode,
    tally: Tally,
}

impl Store {
    /// Opens the store: the policy file if it is good, else the last good policy on disk, else the built-in one.
    ///
    /// The second part watches the policy file, if there is one; run it for as long as the store is used.
    #[must_use]
    pub fn open(sources: Sources) -> (Arc<Self>, Option<FileWatch>) {
        let last_good = sources.state_dir.as_deref().map(LastGood::in_dir);
        let restored = last_good.as_ref().and_then(LastGood::load);
        let (revision, written, document) = restored.unwrap_or_else(|| {
            let written = Written::now(Origin::BuiltIn);
            (1, written, Document::default())
        });
        let active = Arc::new(Active {
            policy: document.compile_in(sources.mode),
            revision,
            written,
            document,
        });
        let store = Arc::new(Self {
            history: Mutex::new(History::starting_with(&active)),
            revisions: watch::Sender::new(revision),
            active: ArcSwap::new(active),
            last_good,
            mode: sources.mode,
            tally: Tally::default(),
        });
        let mut watch = sources
            .file
            .map(|path| FileWatch::new(path, Arc::clone(&store)));
        if let Some(watch) = &mut watch {
            watch.check();
        }
        let active = store.current();
        tracing::info!(
            revision = active.revision,
            origin = active.written.origin.word(),
            mode = active.policy.defaults().mode.word(),
            "policy in force"
        );
        (store, watch)
    }

    /// The policy in force; cheap enough for every call.
    #[must_use]
    pub fn current(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// Follows the number of the revision in force.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revisions.subscribe()
    }

    /// Puts a document into force, and keeps it on disk.
    ///
    /// Blocks for as long as the disk needs; failing to keep it is logged and counted, and refuses nothing.
    ///
    /// # Errors
    /// [`Stale`] if another revision is in force than `expected`.
    pub fn apply(
        &self,
        document: Document,
        written: Written,
        expected: Expected,
    ) -> Result<Outcome, Stale> {
        let policy = document.compile_in(self.mode);
        let outcome = {
            let mut history = self.lock_history();
            self.replace(&mut history, document, policy, written, expected)?
        };
        self.tally.accepted(written.origin);
        if !outcome.changes.is_empty() {
            self.keep(&outcome.active);
        }
        Ok(outcome)
    }

    fn replace(
        &self,
        history: &mut History,
        document: Document,
        policy: Policy,
        written: Written,
        expected: Expected,
    ) -> Result<Outcome, Stale> {
        let before = self.current();
        if let Expected::Revision(revision) = expected
            && revision != before.revision
        {
            return Err(Stale {
                current: before.revision,
            });
        }
        let changes = changes(&before.document.to_value(), &document.to_value());
        if changes.is_empty() {
            return Ok(Outcome {
                active: before,
                changes,
            });
        }
        let active = Arc::new(Active {
            policy,
            revision: before.revision + 1,
            written,
            document,
        });
        history.push(&active);
        self.active.store(Arc::clone(&active));
        self.revisions.send_replace(active.revision);
        tracing::info!(
            revision = active.revision,
            origin = written.origin.word(),
            author_uid = written.author_uid,
            changes = changes.len(),
            "policy changed"
        );
        Ok(Outcome { active, changes })
    }

    fn keep(&self, active: &Active) {
        let Some(last_good) = &self.last_good else {
            return;
        };
        if let Err(error) = last_good.save(active) {
            self.tally.save_failed();
            tracing::warn!(
                revision = active.revision,
                error = %error,
                "the policy is in force, but could not be kept on disk"
            );
        }
    }

    /// Counts and logs a write that was refused.
    pub fn rejected(&self, origin: Origin, error: &DocumentError) {
        self.tally.rejected(origin, error);
    }

    /// The revisions that are remembered, the oldest first.
    #[must_use]
    pub fn revisions(&self) -> Vec<Revision> {
        let history = self.lock_history();
        let current = self.current().revision;
        history.revisions(current)
    }

    /// The document of a revision that is remembered.
    #[must_use]
    pub fn document(&self, revision: u64) -> Option<Document> {
        self.lock_history().document(revision)
    }

    /// The policy in force, and how writes of it went.
    #[must_use]
    pub fn status(&self) -> PolicyStatus {
        let active = self.current();
        self.tally
            .status(history::revision(&active, active.revision))
    }

    fn lock_history(&self) -> MutexGuard<'_, History> {
        // A panic elsewhere leaves the history whole: each write to it is a single push.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
