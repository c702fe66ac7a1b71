//! Makes certificates, and judges them: an authority (CA), and the leaf that it signs.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;

use crate::webhook::certificate::{CertificateError, Pair};
use crate::webhook::validity::Validity;

/// The names by which an API server calls the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names([String; 2]);

/// A CA of ours that can sign.
#[derive(Debug)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// Why a certificate is to be replaced.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// Nothing is there.
    #[error("there is none")]
    Absent,
    /// It is none, or its key is none or another's.
    #[error(transparent)]
    Unusable(#[from] CertificateError),
    /// It has ended, or has not begun.
    #[error("its time is not now")]
    Untimely,
    /// The CA does not stand for what its key signs.
    #[error("it does not stand for what its key signs")]
    Powerless,
    /// The leaf is not by the current CA.
    #[error("the current CA did not sign it")]
    Foreign,
    /// The leaf has not all the names.
    #[error("it is for other names")]
    Names,
    /// Most of its life is over.
    #[error("two thirds of its life are over")]
    Due,
}

impl Names {
    /// Those of a service.
    #[must_use]
    pub fn of(service: &str, namespace: &str) -> Self {
        Self([
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}"),
        ])
    }
}

impl Authority {
    /// Makes one that begins now; its certificate and its key in PEM.
    ///
    /// # Errors
    /// Those of the random numbers.
    pub fn make(now: UnixTime) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = subject();
        valid_for(&mut params, now, AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Pair {
            chain: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        })
    }

    /// Reads one that is to sign on.
    ///
    /// # Errors
    /// [`Flaw`]
    pub fn read(pair: &Pair, now: UnixTime) -> Result<Self, Flaw> {
        let certificate = first(pair)?;
        if !is_usable(&certificate, now) {
            return Err(Flaw::Untimely);
        }
        let key = std::str::from_utf8(&pair.key).map_err(|_| Flaw::Powerless)?;
        let key = KeyPair::from_pem(key).map_err(|_| Flaw::Powerless)?;
        let authority = Self { certificate, key };
        // Tried rather than taken apart: a key, a name or a kind that does not fit shows in what it signs.
        let probe = Names::of("probe", "probe");
        let signed = authority.signed(&probe, &authority.key, now);
        let signed = signed.map_err(|_| Flaw::Powerless)?;
        let bundle = std::slice::from_ref(&authority.certificate);
        if !is_trusted(signed.der(), bundle, &probe, now) {
            return Err(Flaw::Powerless);
        }
        if is_due(&authority.certificate, now) {
            return Err(Flaw::Due);
        }
        Ok(authority)
    }

    /// What API servers know it by.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs a new leaf with a new key, both in PEM.
    ///
    /// # Errors
    /// Those of the random numbers, and of names that are none.
    pub fn sign(&self, names: &Names, now: UnixTime) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = self.signed(names, &key, now)?;
        Ok(Pair {
            chain: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        })
    }

    fn signed(
        &self,
        names: &Names,
        key: &KeyPair,
        now: UnixTime,
    ) -> Result<rcgen::Certificate, rcgen::Error> {
        let mut params = CertificateParams::new(names.0.to_vec())?;
        params.distinguished_name = subject().distinguished_name;
        valid_for(&mut params, now, LEAF_LIFE);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = subject();
        params.signed_by(key, &Issuer::from_params(&issuer, &self.key))
    }
}

/// Why a leaf that `authority` may have signed is to be replaced.
///
/// # Errors
/// [`Flaw`]
pub fn judge_leaf(
    pair: &Pair,
    authority: &CertificateDer<'static>,
    names: &Names,
    now: UnixTime,
) -> Result<(), Flaw> {
    let leaf = first(pair)?;
    pair.config()?;
    if is_due(&leaf, now) {
        return Err(Flaw::Due);
    }
    let signed = ParsedCertificate::try_from(&leaf).map_err(CertificateError::from)?;
    if !is_signed(&signed, std::slice::from_ref(authority), now) {
        return Err(Flaw::Foreign);
    }
    if !has_names(&signed, names) {
        return Err(Flaw::Names);
    }
    Ok(())
}

/// Whether an API server that trusts by `bundle` takes `leaf` for the webhook.
#[must_use]
pub fn is_trusted(
    leaf: &CertificateDer<'_>,
    bundle: &[CertificateDer<'static>],
    names: &Names,
    now: UnixTime,
) -> bool {
    ParsedCertificate::try_from(leaf)
        .is_ok_and(|leaf| has_names(&leaf, names) && is_signed(&leaf, bundle, now))
}

/// Whether it can be trusted by: a certificate whose time is now.
#[must_use]
pub fn is_usable(authority: &CertificateDer<'_>, now: UnixTime) -> bool {
    let is_now = Validity::of(authority).is_some_and(|validity| {
        let now = now.as_secs();
        u64::from(validity.not_before) <= now && now < u64::from(validity.not_after)
    });
    is_now
        && RootCertStore::empty()
            .add(authority.clone().into_owned())
            .is_ok()
}

/// The first certificate of a chain.
pub(super) fn first(pair: &Pair) -> Result<CertificateDer<'static>, Flaw> {
    if pair.chain.is_empty() {
        return Err(Flaw::Absent);
    }
    let file = crate::webhook::certificate::CHAIN;
    CertificateDer::from_pem_slice(&pair.chain)
        .map_err(|source| CertificateError::Pem { file, source }.into())
}

fn is_signed(
    leaf: &ParsedCertificate<'_>,
    bundle: &[CertificateDer<'static>],
    now: UnixTime,
) -> bool {
    let mut roots = RootCertStore::empty();
    let usable = bundle.iter().filter(|authority| is_usable(authority, now));
    roots.add_parsable_certificates(usable.cloned());
    let algorithms = ring::default_provider()
        .signature_verification_algorithms
        .all;
    verify_server_cert_signed_by_trust_anchor(leaf, &roots, &[], now, algorithms).is_ok()
}

fn has_names(leaf: &ParsedCertificate<'_>, names: &Names) -> bool {
    names.0.iter().all(|name| {
        ServerName::try_from(name.as_str())
            .is_ok_and(|name| verify_server_name(leaf, &name).is_ok())
    })
}

/// Whether two thirds of its life are over. What has no readable life is due.
fn is_due(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    Validity::of(certificate).is_none_or(
        |Validity {
             not_before,
             not_after,
         }| {
            let life = u64::from(not_after.saturating_sub(not_before));
            now.as_secs() >= u64::from(not_before) + life * 2 / 3
        },
    )
}

/// One name for all of them: an authority that was read signs as the one that was made. API servers tell them apart by their keys.
fn subject() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "weir-injector");
    params
}

fn valid_for(params: &mut CertificateParams, now: UnixTime, life: Duration) {
    let at = |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(now.as_secs().saturating_sub(SKEW.as_secs()));
    params.not_after = at(now.as_secs() + life.as_secs());
}

/// How long a CA is valid. It is renewed after two thirds, so a leaf never outlives it.
pub const AUTHORITY_LIFE: Duration = Duration::from_hours(10 * 365 * 24);

/// How long a leaf is valid.
pub const LEAF_LIFE: Duration = Duration::from_hours(365 * 24);

/// How far an API server's clock may be behind ours.
const SKEW: Duration = Duration::from_hours(1);
