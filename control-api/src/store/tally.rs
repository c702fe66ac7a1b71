//! Counts what became of writes of the policy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::document::DocumentError;
use crate::view::{Origin, PolicyStatus, Rejection, Revision, Timestamp, UpdateCounts, Updates};

/// Counts since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Tally {
    file: Counts,
    api: Counts,
    save_failures: AtomicU64,
    last_rejection: Mutex<Option<Rejection>>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    rejected: AtomicU64,
}

impl Tally {
    pub(super) fn accepted(&self, origin: Origin) {
        if let Some(counts) = self.of(origin) {
            counts.accepted.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn rejected(&self, origin: Origin, error: &DocumentError) {
        if let Some(counts) = self.of(origin) {
            counts.rejected.fetch_add(1, Ordering::Relaxed);
        }
        let detail = error.to_string();
        tracing::warn!(
            origin = origin.word(),
            reasons = %detail,
            "policy rejected; the one before stays in force"
        );
        let rejection = Rejection {
            at: Timestamp::now(),
            origin,
            detail,
        };
        *self
            .last_rejection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(rejection);
    }

    pub(super) fn save_failed(&self) {
        self.save_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn status(&self, revision: Revision) -> PolicyStatus {
        PolicyStatus {
            revision,
            updates: Updates {
                file: self.file.view(),
                api: self.api.view(),
            },
            last_rejection: self
                .last_rejection
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            save_failures: self.save_failures.load(Ordering::Relaxed),
        }
    }

    /// The built-in policy is not written by anybody.
    fn of(&self, origin: Origin) -> Option<&Counts> {
        match origin {
            Origin::BuiltIn => None,
            Origin::File => Some(&self.file),
            Origin::Api => Some(&self.api),
        }
    }
}

impl Counts {
    fn view(&self) -> UpdateCounts {
        UpdateCounts {
            accepted: self.accepted.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }
}
