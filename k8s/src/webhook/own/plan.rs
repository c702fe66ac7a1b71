//! What is to be done next, by what is seen of the cluster: one step at a time, each a single guarded write.
//!
//! The order makes it safe. A CA is written before it is published, published before it signs, and dropped only when no
//! leaf of it can be valid any more. So whichever replica does which step, and wherever one stops, each serves a leaf that
//! the bundle trusts. Lost contents need no case of their own: they are a CA that is absent, and what the API servers
//! trusted until then becomes an old one.

use std::time::Duration;

use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};

use super::authority::{
    Authority, Flaw, LEAF_LIFE, Names, first, is_trusted, is_usable, judge_leaf,
};
use super::contents::{self, Changes, Contents, certificates, pem};
use crate::webhook::validity::Validity;

/// What one look at the cluster shows.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The Secret's.
    pub contents: &'a Contents,
    /// The bundle of each entry of the webhook configuration, in PEM; empty: it has none.
    pub bundles: &'a [Vec<u8>],
    /// CAs that have been in all bundles for so long that every API server knows.
    pub settled: &'a [CertificateDer<'static>],
    /// The CA of the leaf that is served here.
    pub serving: Option<&'a CertificateDer<'static>>,
    /// What the leaf must be for.
    pub names: &'a Names,
    /// The time.
    pub now: UnixTime,
}

/// What is to be done, and then looked at again.
#[derive(Debug)]
pub enum Step {
    /// A new CA is to be made and written; `old` stay trusted beside it.
    NewAuthority {
        /// What is wrong with the current one.
        why: Flaw,
        /// Those before it.
        old: Vec<CertificateDer<'static>>,
    },
    /// These are to be written as the old CAs, which stay trusted for the life of a leaf.
    Keep(Vec<CertificateDer<'static>>),
    /// This is to be every entry's bundle.
    Publish(String),
    /// A new leaf is to be signed and written.
    NewLeaf {
        /// What is wrong with the current one.
        why: Flaw,
        /// Who signs.
        authority: Box<Authority>,
    },
    /// No leaf of the old CAs can be valid any more.
    Forget,
    /// Nothing, for now.
    Rest,
}

/// What a step writes.
#[derive(Debug)]
pub enum Write {
    /// To the Secret.
    Secret {
        /// What is renewed by it, as the metric names it.
        renewed: &'static str,
        /// Its new data.
        changes: Changes,
    },
    /// To every entry of the webhook configuration.
    Bundle(String),
    /// Nothing, for now.
    Nothing,
}

impl Step {
    /// Makes what the step needs.
    ///
    /// # Errors
    /// Those of the random numbers.
    pub fn write(self, names: &Names, now: UnixTime) -> Result<Write, rcgen::Error> {
        let until = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + OLD_LIFE);
        let (renewed, changes) = match self {
            Self::Rest => return Ok(Write::Nothing),
            Self::Publish(bundle) => return Ok(Write::Bundle(bundle)),
            Self::NewAuthority { old, .. } => {
                let mut changes = contents::authority(Authority::make(now)?);
                changes.extend(contents::old(&old, until));
                ("authority", changes)
            }
            Self::NewLeaf { authority, .. } => {
                ("certificate", contents::leaf(authority.sign(names, now)?))
            }
            Self::Keep(old) => ("old_authorities", contents::old(&old, until)),
            Self::Forget => ("old_authorities", contents::old(&[], now)),
        };
        Ok(Write::Secret { renewed, changes })
    }
}

impl Seen<'_> {
    /// What is to be done next.
    #[must_use]
    pub fn step(&self) -> Step {
        let authority = match Authority::read(&self.contents.authority, self.now) {
            Ok(authority) => authority,
            Err(why) => {
                return Step::NewAuthority {
                    why,
                    old: self.old_beside(None),
                };
            }
        };
        let signer = authority.certificate();
        let old = self.old_beside(Some(signer));
        if old.iter().any(|kept| !self.contents.old.contains(kept)) {
            return Step::Keep(old);
        }
        let trusted: Vec<_> = std::iter::once(signer).chain(&old).cloned().collect();
        let bundle = pem(&trusted);
        if self
            .bundles
            .iter()
            .any(|published| published != bundle.as_bytes())
        {
            return Step::Publish(bundle);
        }
        if let Err(why) = judge_leaf(&self.contents.leaf, signer, self.names, self.now) {
            // Until every API server knows its CA, the leaf before is served on.
            if !self.settled.contains(signer) {
                return Step::Rest;
            }
            let authority = Box::new(authority);
            return Step::NewLeaf { why, authority };
        }
        if old.len() < self.contents.old.len() {
            return Step::Forget;
        }
        Step::Rest
    }

    /// The Secret's leaf, if it can be served: every API server trusts it.
    #[must_use]
    pub fn servable(&self) -> bool {
        first(&self.contents.leaf)
            .is_ok_and(|leaf| is_trusted(&leaf, self.settled, self.names, self.now))
    }

    /// The CA by which the Secret's leaf is trusted.
    #[must_use]
    pub fn issuer(&self) -> Option<CertificateDer<'static>> {
        let leaf = first(&self.contents.leaf).ok()?;
        let signed = |authority: &&CertificateDer<'static>| {
            is_trusted(
                &leaf,
                std::slice::from_ref(*authority),
                self.names,
                self.now,
            )
        };
        self.settled.iter().find(signed).cloned()
    }

    /// The CAs that are to stay trusted beside the one that signs, the newest first. None: there is no such one yet.
    fn old_beside(&self, signer: Option<&CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
        let mut old = Vec::new();
        if self.now.as_secs() < self.contents.old_until {
            old.extend(self.contents.old.iter().cloned());
        }
        old.extend(self.serving.cloned());
        if signer.is_none() {
            old.extend(first(&self.contents.authority));
        }
        // What signs was not published: it is new, or the Secret was put back. Somebody may serve by what was.
        if signer.is_none_or(|signer| !published(self.bundles).contains(signer)) {
            old.extend(self.bundles.iter().flat_map(|bundle| certificates(bundle)));
        }
        let birth = |authority: &CertificateDer<'static>| {
            Validity::of(authority).map_or(0, |validity| validity.not_before)
        };
        // By birth and then by bytes: all replicas must come to the same order.
        old.sort_by(|one, other| birth(other).cmp(&birth(one)).then_with(|| one.cmp(other)));
        old.dedup();
        old.retain(|authority| Some(authority) != signer && is_usable(authority, self.now));
        old.truncate(OLD_MAX);
        old
    }
}

/// The CAs that are in every bundle.
#[must_use]
pub fn published(bundles: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    let mut bundles = bundles.iter().map(|bundle| certificates(bundle));
    let mut common = bundles.next().unwrap_or_default();
    for bundle in bundles {
        common.retain(|authority| bundle.contains(authority));
    }
    common
}

/// How long old CAs stay trusted once the last of them has become one: then no leaf of theirs can be valid.
pub const OLD_LIFE: Duration = LEAF_LIFE;

/// Most old CAs: so many losses of the Secret within the life of a leaf distrust nobody. Of more the newest are kept, whoever
/// serves by which: replicas that preferred their own would undo each other's choice for ever.
pub const OLD_MAX: usize = 7;
