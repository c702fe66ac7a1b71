use std::collections::BTreeMap;

use k8s_openapi::ByteString;

use super::authority::{AUTHORITY_LIFE, LEAF_LIFE, is_trusted};
use super::contents::{Changes, Contents, certificates};
use super::plan::{OLD_LIFE, OLD_MAX};
use super::*;

mod simulation;

const DAY: u64 = 86_400;

/// Some time in 2026.
const BEGIN: u64 = 1_790_000_000;

fn names() -> Names {
    Names::of("weir-injector", "weir-system")
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// The two objects, without a cluster around them.
#[derive(Debug, Clone, Default)]
struct Objects {
    data: BTreeMap<String, ByteString>,
    bundles: Vec<Vec<u8>>,
}

impl Objects {
    /// As Helm installs them.
    fn installed() -> Self {
        Self {
            bundles: vec![Vec::new(); 2],
            ..Self::default()
        }
    }

    fn write(&mut self, changes: Changes) {
        for (key, value) in changes {
            self.data.insert(key.to_owned(), ByteString(value));
        }
    }

    /// What one replica that knows all to be settled, and serves the Secret's leaf, would do.
    fn step(&self, now: u64) -> Step {
        self.step_of(&names(), None, now)
    }

    fn step_of(&self, names: &Names, serving: Option<&CertificateDer<'static>>, now: u64) -> Step {
        Seen {
            contents: &Contents::read(&self.data),
            bundles: &self.bundles,
            settled: &published(&self.bundles),
            serving,
            names,
            now: at(now),
        }
        .step()
    }

    /// Takes steps until there is none, and tells which.
    fn settle(&mut self, now: u64) -> Vec<&'static str> {
        let mut taken = Vec::new();
        while taken.len() < 9 {
            match self.step(now).write(&names(), at(now)).unwrap() {
                Write::Nothing => return taken,
                Write::Bundle(bundle) => {
                    self.bundles.fill(bundle.into_bytes());
                    taken.push("bundle");
                }
                Write::Secret { renewed, changes } => {
                    self.write(changes);
                    taken.push(renewed);
                }
            }
        }
        panic!("no end: {taken:?}");
    }

    fn contents(&self) -> Contents {
        Contents::read(&self.data)
    }

    fn authority(&self) -> CertificateDer<'static> {
        certificates(&self.contents().authority.chain).remove(0)
    }

    fn trusts(&self, leaf: &Pair, now: u64) -> bool {
        let leaf = &certificates(&leaf.chain)[0];
        let trusts = |bundle: &Vec<u8>| is_trusted(leaf, &certificates(bundle), &names(), at(now));
        self.bundles.iter().all(trusts)
    }
}

#[test]
fn a_first_start_makes_a_ca_publishes_it_and_only_then_signs() {
    let mut objects = Objects::installed();
    assert_eq!(
        objects.settle(BEGIN),
        ["authority", "bundle", "certificate"]
    );
    assert!(objects.trusts(&objects.contents().leaf, BEGIN));
    assert_eq!(certificates(&objects.bundles[0]), [objects.authority()]);
}

#[test]
fn a_ca_that_is_not_settled_does_not_sign() {
    let mut objects = Objects::installed();
    let pair = authority::Authority::make(at(BEGIN)).unwrap();
    objects.write(contents::authority(pair.clone()));
    objects.bundles.fill(pair.chain);
    let contents = objects.contents();
    let (bundles, names) = (&objects.bundles, names());
    let seen = Seen {
        contents: &contents,
        bundles,
        settled: &[],
        serving: None,
        names: &names,
        now: at(BEGIN),
    };
    assert!(matches!(seen.step(), Step::Rest));
    assert!(!seen.servable());
}

#[test]
fn a_leaf_is_renewed_after_two_thirds_of_its_life_by_the_same_ca() {
    let mut objects = Objects::installed();
    objects.settle(BEGIN);
    let (leaf, authority) = (objects.contents().leaf, objects.authority());
    let due = BEGIN + LEAF_LIFE.as_secs() * 2 / 3;
    assert_eq!(objects.settle(due - DAY), [""; 0]);
    assert_eq!(objects.settle(due + DAY), ["certificate"]);
    assert_ne!(objects.contents().leaf, leaf);
    assert_eq!(objects.authority(), authority);
    // Whoever has not read the new one yet is trusted on.
    assert!(objects.trusts(&leaf, due + DAY));
}

#[test]
fn a_ca_is_renewed_long_before_its_end_and_the_old_one_stays_for_the_life_of_a_leaf() {
    let mut objects = Objects::installed();
    objects.settle(BEGIN);
    let due = BEGIN + AUTHORITY_LIFE.as_secs() * 2 / 3 + DAY;
    // The last leaf of the old one is young.
    objects.settle(due - 10 * DAY);
    let (leaf, old) = (objects.contents().leaf, objects.authority());
    assert!(matches!(
        objects.step(due),
        Step::NewAuthority {
            why: authority::Flaw::Due,
            ..
        }
    ));
    assert_eq!(objects.settle(due), ["authority", "bundle", "certificate"]);
    let new = objects.authority();
    assert_eq!(certificates(&objects.bundles[0]), [new.clone(), old]);
    assert!(objects.trusts(&leaf, due));
    let over = due + OLD_LIFE.as_secs();
    assert_eq!(objects.settle(over - DAY), ["certificate"]);
    assert_eq!(objects.settle(over + 1), ["bundle", "old_authorities"]);
    assert_eq!(certificates(&objects.bundles[0]), [new]);
    assert_eq!(objects.contents().old, []);
    // It was of no use any more.
    assert!(!objects.trusts(&leaf, over + 1));
    let params = objects.contents().leaf;
    assert!(objects.trusts(&params, over + 1));
}

#[test]
fn a_lost_or_spoiled_secret_makes_a_new_ca_and_what_was_trusted_stays_so() {
    let spoilers: [fn(&mut BTreeMap<String, ByteString>); 4] = [
        BTreeMap::clear,
        |data| {
            data.insert("ca.key".to_owned(), ByteString(b"mine".to_vec()));
        },
        |data| {
            data.insert("ca.crt".to_owned(), ByteString(b"mine".to_vec()));
        },
        |data| {
            // The key of another.
            let other = authority::Authority::make(at(BEGIN)).unwrap();
            data.insert("ca.key".to_owned(), ByteString(other.key));
        },
    ];
    for spoil in spoilers {
        let mut objects = Objects::installed();
        objects.settle(BEGIN);
        let (leaf, old) = (objects.contents().leaf, objects.authority());
        spoil(&mut objects.data);
        assert_eq!(
            objects.settle(BEGIN + DAY),
            ["authority", "bundle", "certificate"]
        );
        assert_ne!(objects.authority(), old);
        assert_eq!(objects.contents().old, [old]);
        assert!(objects.trusts(&leaf, BEGIN + DAY));
    }
}

#[test]
fn a_spoiled_leaf_is_signed_anew_and_nothing_else() {
    let mut objects = Objects::installed();
    objects.settle(BEGIN);
    let bundles = objects.bundles.clone();
    objects
        .data
        .insert("tls.key".to_owned(), ByteString(b"mine".to_vec()));
    assert_eq!(objects.settle(BEGIN), ["certificate"]);
    assert_eq!(objects.bundles, bundles);
}

#[test]
fn a_leaf_for_other_names_is_signed_anew() {
    let mut objects = Objects::installed();
    objects.settle(BEGIN);
    let renamed = Names::of("renamed", "weir-system");
    let step = objects.step_of(&renamed, None, BEGIN);
    assert!(
        matches!(
            step,
            Step::NewLeaf {
                why: authority::Flaw::Names,
                ..
            }
        ),
        "{step:?}"
    );
}

#[test]
fn a_bundle_that_somebody_took_away_is_put_back() {
    let mut objects = Objects::installed();
    objects.settle(BEGIN);
    let bundles = objects.bundles.clone();
    objects.bundles[1].clear();
    assert_eq!(objects.settle(BEGIN), ["bundle"]);
    assert_eq!(objects.bundles, bundles);
}

#[test]
fn a_secret_that_was_put_back_does_not_distrust_what_is_served() {
    let mut objects = Objects::installed();
    objects.settle(BEGIN);
    let backup = objects.data.clone();
    objects.data.clear();
    objects.settle(BEGIN + DAY);
    // Long after, the first CA is gone from the bundle.
    let later = BEGIN + DAY + OLD_LIFE.as_secs() + DAY;
    objects.settle(later);
    let leaf = objects.contents().leaf;
    objects.data = backup;
    assert_eq!(
        objects.settle(later),
        ["old_authorities", "bundle", "certificate"]
    );
    assert!(objects.trusts(&leaf, later));
}

#[test]
fn what_a_replica_serves_stays_trusted_when_secret_and_bundle_are_lost_at_once() {
    let mut objects = Objects::installed();
    objects.settle(BEGIN);
    let (leaf, old) = (objects.contents().leaf, objects.authority());
    // Another replica, which serves nothing yet, has mended both.
    objects = Objects::installed();
    objects.settle(BEGIN);
    assert!(!objects.trusts(&leaf, BEGIN));
    let step = objects.step_of(&names(), Some(&old), BEGIN);
    let Write::Secret { changes, .. } = step.write(&names(), at(BEGIN)).unwrap() else {
        panic!("the old CA is not kept");
    };
    objects.write(changes);
    assert_eq!(objects.settle(BEGIN), ["bundle"]);
    assert!(objects.trusts(&leaf, BEGIN));
}

#[test]
fn a_secret_that_is_spoiled_over_and_over_does_not_grow_the_bundle_for_ever() {
    let mut objects = Objects::installed();
    for day in 0..u64::try_from(OLD_MAX).unwrap() + 3 {
        objects.data.clear();
        objects.settle(BEGIN + day * DAY);
        assert!(certificates(&objects.bundles[0]).len() <= OLD_MAX + 1);
    }
}

#[test]
fn a_foreign_ca_in_the_bundle_goes_once_ours_is_there() {
    let mut objects = Objects::installed();
    objects.settle(BEGIN);
    let bundles = objects.bundles.clone();
    let foreign = authority::Authority::make(at(BEGIN)).unwrap();
    objects.bundles[0].extend(foreign.chain);
    assert_eq!(objects.settle(BEGIN), ["bundle"]);
    assert_eq!(objects.bundles, bundles);
}
