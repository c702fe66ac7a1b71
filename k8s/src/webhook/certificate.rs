//! The certificate that is served: one at a time, replaced at any time, for the connections that begin after it.
//!
//! It comes from mounted [`files`], or from the injector [`itself`](super::own).

pub mod files;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, version};

use super::metrics::Metrics;
use super::validity::Validity;

/// What new connections are served with.
#[derive(Debug)]
pub struct Served {
    config: ArcSwapOption<ServerConfig>,
    metrics: Arc<Metrics>,
}

/// A certificate's chain and its key, each in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The leaf comes first.
    pub chain: Vec<u8>,
    /// The leaf's.
    pub key: Vec<u8>,
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

impl Served {
    /// None yet: handshakes fail, and nobody should be sent here.
    #[must_use]
    pub fn nothing(metrics: Arc<Metrics>) -> Self {
        Self {
            config: ArcSwapOption::empty(),
            metrics,
        }
    }

    /// What a connection that begins now is served with.
    #[must_use]
    pub fn current(&self) -> Option<Arc<ServerConfig>> {
        self.config.load_full()
    }

    /// Serves `pair` from now on, and tells when it ends, in seconds since 1970; on an error, goes on with what was.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn serve(&self, pair: &Pair) -> Result<Option<u32>, CertificateError> {
        let (config, expiry) = pair
            .config()
            .inspect_err(|_| self.metrics.certificate_failed())?;
        self.config.store(Some(Arc::new(config)));
        self.metrics.certificate_loaded(expiry);
        Ok(expiry)
    }
}

impl Pair {
    /// What serves them, and when the certificate ends.
    pub(super) fn config(&self) -> Result<(ServerConfig, Option<u32>), CertificateError> {
        let wrong = |file| move |source| CertificateError::Pem { file, source };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.chain)
            .collect::<Result<_, _>>()
            .map_err(wrong(CHAIN))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(wrong(KEY))?;
        let expiry = chain
            .first()
            .and_then(|leaf| Validity::of(leaf))
            .map(|validity| validity.not_after);
        // Every API server since Kubernetes 1.16 speaks TLS 1.3.
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok((config, expiry))
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key is not for logs.
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// The chain's name, as a file and in a Secret.
pub(super) const CHAIN: &str = "tls.crt";

/// The key's.
pub(super) const KEY: &str = "tls.key";
