//! Watches the policy file.
//!
//! It looks once a second instead of asking the kernel for events: a mounted `ConfigMap` changes by swapping a symbolic
//! link two directories up, editors replace files, and network file systems send no events at all. One `stat` a second
//! sees them all.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;

use super::{Expected, Store, Written};
use crate::document::{BYTES_MAX, Document, DocumentError};
use crate::view::Origin;

/// Watches the policy file and puts it into force when its contents change.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    store: Arc<Store>,
    /// What the last contents hash to.
    hash: Option<u64>,
    /// The last contents' stamp. None: they changed so recently that the next change could look the same.
    stamp: Option<Stamp>,
    /// Why the file cannot be read at present.
    unreadable: Option<io::ErrorKind>,
}

/// What changes about a file when its contents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileWatch {
    pub(super) fn new(path: PathBuf, store: Arc<Store>) -> Self {
        Self {
            path,
            store,
            hash: None,
            stamp: None,
            unreadable: None,
        }
    }

    /// Looks at the file once a second, for ever.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.is_unchanged() {
                continue;
            }
            // Reading, parsing and keeping a policy may block on a disk; the runtime's thread must not.
            let looked = tokio::task::spawn_blocking(move || {
                self.check();
                self
            });
            match looked.await {
                Ok(watch) => self = watch,
                // The runtime is shutting down, or there is a bug; either way nobody looks any more.
                Err(error) => {
                    return tracing::error!(%error, "the policy file is no longer watched");
                }
            }
        }
    }

    /// Whether one `stat` is enough to know that there is nothing to read.
    fn is_unchanged(&self) -> bool {
        self.stamp.is_some_and(|stamp| {
            fs::metadata(&self.path).is_ok_and(|metadata| Stamp::of(&metadata) == stamp)
        })
    }

    /// Reads the file, and puts it into force if its contents are new and good.
    pub(super) fn check(&mut self) {
        let (stamp, bytes) = match self.read() {
            Ok(read) => read,
            Err(error) => return self.unreadable(&error),
        };
        self.stamp = stamp;
        self.unreadable = None;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hash = Some(hasher.finish());
        if std::mem::replace(&mut self.hash, hash) == hash {
            return;
        }
        match parse(&bytes) {
            Ok(document) => {
                let written = Written::now(Origin::File);
                // Nobody else can be right about what is in force: the last write wins.
                drop(self.store.apply(document, written, Expected::Anything));
            }
            Err(error) => self.store.rejected(Origin::File, &error),
        }
    }

    /// The file's contents, and its stamp if that is old enough to be trusted.
    fn read(&self) -> io::Result<(Option<Stamp>, Vec<u8>)> {
        let path = &self.path;
        // Opening a pipe would wait for its writer, so it is asked before.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut bytes = Vec::new();
        let most = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX);
        (&mut file)
            .take(most.saturating_add(1))
            .read_to_end(&mut bytes)?;
        let settled = metadata
            .modified()
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok())
            .is_some_and(|age| age > CLOCK_TICK_MAX);
        Ok((settled.then(|| Stamp::of(&metadata)), bytes))
    }

    /// The policy stays; said once for each kind of reason.
    fn unreadable(&mut self, error: &io::Error) {
        let reason = Some(error.kind());
        if std::mem::replace(&mut self.unreadable, reason) != reason {
            tracing::warn!(
                path = %self.path.display(),
                %error,
                "the policy file cannot be read; the policy before stays in force"
            );
        }
        self.stamp = None;
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Document, DocumentError> {
    let text = std::str::from_utf8(bytes).map_err(|error| DocumentError::Syntax {
        format: "UTF-8",
        detail: error.to_string(),
    })?;
    Document::parse(text)
}

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Coarsest clock of a file system, FAT's two seconds: two writes within it may leave the same stamp.
const CLOCK_TICK_MAX: Duration = Duration::from_secs(2);
