//! Keeps the last good policy on disk, for a start without a good policy file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Active, Written};
use crate::document::Document;
use crate::view::Revision;

/// A file that holds the last good policy.
#[derive(Debug)]
pub(super) struct LastGood {
    path: PathBuf,
    /// The revision on disk. Held while writing, so that an older revision never overwrites a newer one.
    saved: Mutex<u64>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    written: Revision,
    document: Document,
}

impl LastGood {
    pub(super) fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join(FILE_NAME),
            saved: Mutex::new(0),
        }
    }

    /// Reads what was kept. None, and a log line, if there is nothing that can be used.
    pub(super) fn load(&self) -> Option<(u64, Written, Document)> {
        let saved = match read(&self.path) {
            Ok(saved) => saved,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the last good policy cannot be read back; ignored");
                return None;
            }
        };
        let written = Written {
            origin: saved.written.origin,
            at: saved.written.at,
            author_uid: saved.written.author_uid,
            rollback_of: saved.written.rollback_of,
        };
        Some((saved.written.revision, written, saved.document))
    }

    /// Replaces what was kept, whole or not at all: a new file, flushed, renamed over the old one.
    pub(super) fn save(&self, active: &Active) -> io::Result<()> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if active.revision <= *saved {
            return Ok(());
        }
        let text = serde_json::to_vec(&Saved {
            written: super::history::revision(active, active.revision),
            document: active.document.clone(),
        })?;
        let temporary = self.path.with_extension("json.new");
        let placed = write(&temporary, &text).and_then(|()| fs::rename(&temporary, &self.path));
        if placed.is_err() {
            // A full disk gets back what was written of it.
            drop(fs::remove_file(&temporary));
        }
        placed?;
        // The rename itself is durable only once the directory is.
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        *saved = active.revision;
        Ok(())
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn read(path: &Path) -> io::Result<Saved> {
    let mut text = String::new();
    File::open(path)?
        .take(BYTES_MAX)
        .read_to_string(&mut text)?;
    let saved: Saved = serde_json::from_str(&text)?;
    if !(1..=REVISION_MAX).contains(&saved.written.revision) {
        return Err(io::Error::other("its revision is no number that we give"));
    }
    Ok(saved)
}

/// Highest revision that is read back: the largest whole number that every JSON reader keeps exact (RFC 8259 §6).
const REVISION_MAX: u64 = (1 << 53) - 1;
const FILE_NAME: &str = "last-good-policy.json";
/// Most that is read back: the canonical form of the largest document is a few times as long as its text.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
