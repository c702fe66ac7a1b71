//! A certificate of mounted files, which are read again when they change.
//!
//! A mounted Secret changes by a swap of symbolic links, at any time and in two files. So both are read once in a while
//! and compared; a pair that does not fit together is not served, and the one before goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{CHAIN, CertificateError, KEY, Pair, Served};

/// A directory with `tls.crt` and `tls.key`, as a Secret of the type `kubernetes.io/tls` is mounted.
#[derive(Debug)]
pub struct CertificateFiles {
    directory: PathBuf,
    /// What was read last, good or bad.
    pair: Pair,
    served: Arc<Served>,
}

impl CertificateFiles {
    /// Reads the files for the first time, and serves them.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn open(directory: &Path, served: Arc<Served>) -> Result<Self, CertificateError> {
        let pair = read(directory)?;
        served.serve(&pair)?;
        Ok(Self {
            directory: directory.to_owned(),
            pair,
            served,
        })
    }

    /// Looks at the files every `period`, for ever.
    pub async fn watch(mut self, period: Duration) {
        loop {
            tokio::time::sleep(period).await;
            // Two small files of a memory file system: no thread is needed for them.
            self.look();
        }
    }

    fn look(&mut self) {
        let pair = match read(&self.directory) {
            Ok(pair) if pair == self.pair => return,
            Ok(pair) => pair,
            // Whatever it is, the next look tells.
            Err(error) => return tracing::warn!(%error, "the certificate cannot be read"),
        };
        match self.served.serve(&pair) {
            Ok(expiry) => tracing::info!(?expiry, "a new certificate is served"),
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be served; the old one goes on");
            }
        }
        self.pair = pair;
    }
}

fn read(directory: &Path) -> Result<Pair, CertificateError> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(|source| CertificateError::File { path, source })
    };
    Ok(Pair {
        chain: read(CHAIN)?,
        key: read(KEY)?,
    })
}
