//! Names of Kubernetes' objects, as they are typed.
//!
//! They become parts of URLs, so only what can be the name of something is taken: `a/exec` or `../x` would ask the API
//! server for something else than a pod.

use std::str::FromStr;

use control_api::well_known::kubernetes::{
    LABEL_BYTES_MAX, SUBDOMAIN_BYTES_MAX, is_label, is_subdomain,
};

/// The pod that is meant: `[NS/]NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodName {
    /// None: the context's.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl FromStr for PodName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(self::namespace(namespace)?), name),
            None => (None, text),
        };
        Ok(Self {
            namespace,
            name: subdomain("pod", name)?,
        })
    }
}

/// A namespace's name: a label of RFC 1123.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    if is_label(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no name of a namespace: 1 to {LABEL_BYTES_MAX} of a-z, 0-9 and -, with a letter or digit first and last"
    ))
}

/// A `ConfigMap`'s name; nothing is the one that the pods mount.
pub(super) fn config_map(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    subdomain("ConfigMap", text)
}

fn subdomain(kind: &str, text: &str) -> Result<String, String> {
    if is_subdomain(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no name of a {kind}: 1 to {SUBDOMAIN_BYTES_MAX} of a-z, 0-9, - and ., with a letter or digit first, \
         last and beside each ."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_with_or_without_its_namespace() {
        let named = |namespace: Option<&str>, name: &str| PodName {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        };
        assert_eq!("a-0.b".parse(), Ok(named(None, "a-0.b")));
        assert_eq!("shop/a".parse(), Ok(named(Some("shop"), "a")));
        let longest = "a".repeat(SUBDOMAIN_BYTES_MAX);
        assert_eq!(longest.parse(), Ok(named(None, &longest)));
    }

    #[test]
    fn what_would_ask_for_something_else_is_refused() {
        let too_long = "a".repeat(SUBDOMAIN_BYTES_MAX + 1);
        let names = [
            "",
            "/",
            "a/",
            "/a",
            "../x",
            "..",
            "a/b/exec",
            "a/client?x=1",
            "a/b%2fexec",
            "a/b#c",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            "a.",
            ".a",
            "a b",
            "ä",
            "a\n",
            "shop.x/a",
            &too_long,
        ];
        for name in names {
            assert!(name.parse::<PodName>().is_err(), "{name:?}");
        }
        let why = "atk-a/client?x=1".parse::<PodName>().unwrap_err();
        assert!(
            why.starts_with("\"client?x=1\" is no name of a pod"),
            "{why}"
        );
    }

    #[test]
    fn namespaces_are_labels_and_config_maps_subdomains() {
        assert_eq!(namespace("shop"), Ok("shop".to_owned()));
        for wrong in ["", "a.b", "a/pods", &"a".repeat(LABEL_BYTES_MAX + 1)] {
            assert!(namespace(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(config_map("weir.policy-2"), Ok("weir.policy-2".to_owned()));
        assert_eq!(config_map(""), Ok(String::new()));
        assert!(config_map("x/../../secrets/y").is_err());
    }
}
