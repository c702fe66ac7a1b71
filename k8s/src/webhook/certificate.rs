//! The certificate that is served: read from mounted files, and read again when they change.
//!
//! A mounted Secret changes by a swap of symbolic links, at any time and in two files. So both are read once in a while
//! and compared; a pair that does not fit together is not served, and the one before goes on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, version};

use super::expiry;
use super::metrics::Metrics;

/// A directory with `tls.crt` and `tls.key`, as a Secret of the type `kubernetes.io/tls` is mounted.
#[derive(Debug)]
pub struct Certificate {
    directory: PathBuf,
    /// What was read last, good or bad.
    files: Files,
    served: Arc<ArcSwap<ServerConfig>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{}: {source}; is the Secret there and mounted?", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no PEM.
    #[error("{file}: {source}")]
    Pem {
        /// `tls.crt` or `tls.key`.
        file: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// The two do not fit together, or are of a kind that cannot be used.
    #[error("{CHAIN} and {KEY}: {0}")]
    Pair(#[from] rustls::Error),
}

impl Certificate {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn open(directory: &Path, metrics: Arc<Metrics>) -> Result<Self, CertificateError> {
        let files = Files::read(directory)?;
        let (config, expiry) = files.config()?;
        metrics.certificate_loaded(expiry);
        Ok(Self {
            directory: directory.to_owned(),
            files,
            served: Arc::new(ArcSwap::from_pointee(config)),
            metrics,
        })
    }

    /// What new connections are to be served with; look again for each.
    #[must_use]
    pub fn served(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.served)
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
        let files = match Files::read(&self.directory) {
            Ok(files) if files == self.files => return,
            Ok(files) => files,
            // Whatever it is, the next look tells.
            Err(error) => return tracing::warn!(%error, "the certificate cannot be read"),
        };
        match files.config() {
            Ok((config, expiry)) => {
                self.served.store(Arc::new(config));
                self.metrics.certificate_loaded(expiry);
                tracing::info!(?expiry, "a new certificate is served");
            }
            Err(error) => {
                self.metrics.certificate_failed();
                tracing::error!(%error, "the new certificate cannot be served; the old one goes on");
            }
        }
        self.files = files;
    }
}

impl Files {
    fn read(directory: &Path) -> Result<Self, CertificateError> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read(&path).map_err(|source| CertificateError::File { path, source })
        };
        Ok(Self {
            chain: read(CHAIN)?,
            key: read(KEY)?,
        })
    }

    /// What serves them, and when the certificate ends.
    fn config(&self) -> Result<(ServerConfig, Option<u32>), CertificateError> {
        let wrong = |file| move |source| CertificateError::Pem { file, source };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.chain)
            .collect::<Result<_, _>>()
            .map_err(wrong(CHAIN))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(wrong(KEY))?;
        let expiry = chain.first().and_then(|leaf| expiry::not_after(leaf));
        // Every API server since Kubernetes 1.16 speaks TLS 1.3.
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok((config, expiry))
    }
}

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
