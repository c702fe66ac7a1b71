//! What the Secret holds. Whatever is missing or spoiled reads as empty: to judge it is for [`plan`](super::plan).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::ByteString;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};

use crate::webhook::certificate::{CHAIN, KEY, Pair};

/// The Secret's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The CA that signs.
    pub authority: Pair,
    /// CAs that signed before, and stay trusted for as long as a replica may serve a leaf of theirs.
    pub old: Vec<CertificateDer<'static>>,
    /// Until when, in seconds since 1970.
    pub old_until: u64,
    /// What all replicas serve.
    pub leaf: Pair,
}

/// Keys of the Secret that are to be written, with their values.
pub type Changes = Vec<(&'static str, Vec<u8>)>;

impl Contents {
    /// Reads a Secret's data.
    #[must_use]
    pub fn read(data: &BTreeMap<String, ByteString>) -> Self {
        let value = |key: &str| {
            data.get(key)
                .map(|bytes| bytes.0.clone())
                .unwrap_or_default()
        };
        let until = String::from_utf8(value(OLD_UNTIL)).unwrap_or_default();
        Self {
            authority: Pair {
                chain: value(AUTHORITY),
                key: value(AUTHORITY_KEY),
            },
            old: certificates(&value(OLD)),
            old_until: until.trim().parse().unwrap_or_default(),
            leaf: Pair {
                chain: value(CHAIN),
                key: value(KEY),
            },
        }
    }
}

/// Writes a new CA.
#[must_use]
pub fn authority(pair: Pair) -> Changes {
    vec![(AUTHORITY, pair.chain), (AUTHORITY_KEY, pair.key)]
}

/// Writes a new leaf.
#[must_use]
pub fn leaf(pair: Pair) -> Changes {
    vec![(CHAIN, pair.chain), (KEY, pair.key)]
}

/// Writes which old CAs stay trusted, and until when.
#[must_use]
pub fn old(kept: &[CertificateDer<'static>], until: UnixTime) -> Changes {
    let until = until.as_secs().to_string();
    vec![
        (OLD, pem(kept).into_bytes()),
        (OLD_UNTIL, until.into_bytes()),
    ]
}

/// The certificates of PEM; those after what is none are left out.
#[must_use]
pub fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .map_while(Result::ok)
        .collect()
}

/// Certificates in PEM (RFC 7468).
#[must_use]
pub fn pem(certificates: &[CertificateDer<'static>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = BASE64_STANDARD.encode(certificate);
        while !rest.is_empty() {
            let after = rest.split_off(rest.len().min(64));
            text.push_str(&rest);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const OLD: &str = "old-ca.crt";
const OLD_UNTIL: &str = "old-ca-until";
