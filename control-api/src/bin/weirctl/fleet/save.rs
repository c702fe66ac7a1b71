//! Keeps a pushed policy in the `ConfigMap` that new pods start from.
//!
//! It is read before the push and written after it, if it is still as it was: of two who push at the same time, the later
//! is told. Pods that run see their file change a minute later; its policy is the one they have, so nothing changes.

use std::collections::BTreeSet;

use control_api::well_known::kubernetes::{POLICY_CONFIG_MAP, POLICY_KEY};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::cluster::{Cluster, Unwritten};
use super::target::policy_config_map;
use crate::Failure;

/// The `ConfigMap`, as it was before the push.
#[derive(Debug)]
pub(super) struct Save {
    name: String,
    found: Option<ConfigMap>,
}

impl Save {
    /// Reads the `ConfigMap` of this name; without one, the one that the pods mount. One that could not be written after
    /// the push is an error before it.
    pub(super) async fn read(
        cluster: &Cluster,
        name: &str,
        mounted: &BTreeSet<String>,
        policy: &str,
    ) -> Result<Self, Failure> {
        let name = name_of(name, mounted)?;
        let found = cluster.config_map(&name).await?;
        check(&name, found.as_ref(), policy)?;
        Ok(Self { name, found })
    }

    /// Writes it; the result says what was done, in words.
    pub(super) async fn write(self, cluster: &Cluster, policy: &str) -> Result<String, Failure> {
        let Self { name, found } = self;
        let is_there = found.is_some();
        let Some(map) = with_policy(&name, found, policy) else {
            return Ok(format!("ConfigMap {name} has this policy already"));
        };
        let written = if is_there {
            cluster.replace(&name, &map).await
        } else {
            cluster.create(&map).await
        };
        let namespace = &cluster.namespace;
        match written {
            Ok(()) => Ok(format!("ConfigMap {name} written")),
            Err(Unwritten::Conflict) => Err(format!(
                "ConfigMap {name} was written by somebody else while the push ran, and is left so: pods that start get \
                 that policy, those above have this one; compare it (kubectl -n {namespace} get configmap {name} -o yaml) \
                 and push again"
            )
            .into()),
            Err(Unwritten::Failed(why)) => {
                Err(format!("the policy is pushed, but not saved in ConfigMap {name}: {why}").into())
            }
        }
    }
}

fn name_of(name: &str, mounted: &BTreeSet<String>) -> Result<String, Failure> {
    if !name.is_empty() {
        return Ok(name.to_owned());
    }
    let mut names = mounted.iter();
    match (names.next(), names.next()) {
        (None, _) => Ok(POLICY_CONFIG_MAP.to_owned()),
        (Some(name), None) => Ok(name.clone()),
        (Some(_), Some(_)) => {
            let all: Vec<&str> = mounted.iter().map(String::as_str).collect();
            Err(format!(
                "the pods mount several ConfigMaps ({}): which one is meant, --save=NAME?",
                all.join(", ")
            )
            .into())
        }
    }
}

/// Whether it can be given the policy.
fn check(name: &str, found: Option<&ConfigMap>, policy: &str) -> Result<(), String> {
    let Some(map) = found.filter(|map| map.immutable == Some(true)) else {
        return Ok(());
    };
    match with_policy(name, Some(map.clone()), policy) {
        None => Ok(()),
        Some(_) => Err(format!(
            "ConfigMap {name} is immutable and has another policy, so nothing is pushed: delete it and push again, which \
             makes it anew; or name another (--save=NAME), or leave out --save"
        )),
    }
}

/// The `ConfigMap` with the policy, and all else as it was; None: it has it already.
fn with_policy(name: &str, found: Option<ConfigMap>, policy: &str) -> Option<ConfigMap> {
    let mut map = found.unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    let before = map
        .data
        .get_or_insert_default()
        .insert(POLICY_KEY.to_owned(), policy.to_owned());
    (before.as_deref() != Some(policy)).then_some(map)
}

/// What to say of pods whose `ConfigMap` is another than the one that is written.
pub(super) fn elsewhere(pods: &[Pod], save: &Save) -> Vec<String> {
    let names = pods.iter().filter_map(|pod| {
        let mounted = policy_config_map(pod).filter(|mounted| *mounted != save.name)?;
        Some((mounted, pod.metadata.name.as_deref()?))
    });
    let mut by_map = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for (mounted, pod) in names {
        by_map.entry(mounted).or_default().push(pod);
    }
    let said = by_map.iter().map(|(mounted, pods)| {
        let (first, count) = (pods.first().copied().unwrap_or_default(), pods.len());
        let which = if count == 1 { first.to_owned() } else { format!("{first} and {} more", count - 1) };
        format!(
            "{which} start from ConfigMap {mounted} (weir.dev/policy), not from {}: when they start again, this policy is lost",
            save.name
        )
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn without_a_name_it_is_the_one_that_the_pods_mount() {
        assert_eq!(name_of("x", &names(&["a", "b"])).unwrap(), "x");
        assert_eq!(name_of("", &names(&["a"])).unwrap(), "a");
        assert_eq!(name_of("", &names(&[])).unwrap(), "weir-policy");
        assert!(
            name_of("", &names(&["a", "b"]))
                .unwrap_err()
                .to_string()
                .contains("a, b")
        );
    }

    #[test]
    fn all_else_in_the_config_map_stays() {
        let found: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": "a", "resourceVersion": "7", "labels": {"x": "y"}},
            "data": {"other": "1", "policy.yaml": "old"},
        }))
        .unwrap();
        let map = with_policy("a", Some(found.clone()), "new").unwrap();
        assert_eq!(
            serde_json::to_value(&map).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "a", "resourceVersion": "7", "labels": {"x": "y"}},
                "data": {"other": "1", "policy.yaml": "new"},
            })
        );
        assert_eq!(with_policy("a", Some(found), "old"), None);
        assert!(with_policy("a", None, "").is_some());
    }

    #[test]
    fn an_immutable_config_map_can_only_have_the_policy_already() {
        let found = |immutable| ConfigMap {
            immutable,
            data: Some([(POLICY_KEY.to_owned(), "old".to_owned())].into()),
            ..ConfigMap::default()
        };
        let why = check("a", Some(&found(Some(true))), "new").unwrap_err();
        assert!(why.contains("ConfigMap a is immutable"), "{why}");
        assert_eq!(check("a", Some(&found(Some(true))), "old"), Ok(()));
        assert_eq!(check("a", Some(&found(Some(false))), "new"), Ok(()));
        assert_eq!(check("a", Some(&found(None)), "new"), Ok(()));
        assert_eq!(check("a", None, "new"), Ok(()));
    }
}
