//! What every injected pod gets: the image, where spans go, and the options' values where a pod says nothing.
//!
//! One document, YAML or JSON, which the chart writes. Unknown fields are refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::options::{OptionError, Options};

/// The injector's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The image with `weir` and `weirctl`.
    pub image: String,
    /// When it is pulled: `IfNotPresent`, `Always` or `Never`.
    pub image_pull_policy: PullPolicy,
    /// Names of Secrets of the pod's namespace by which it is pulled.
    pub image_pull_secrets: Vec<String>,
    /// Where spans go. None: nowhere.
    pub otlp: Option<Otlp>,
    /// Further variables of the proxy, as a container's `env`.
    pub env: Vec<Value>,
    /// What the options are where a pod's annotations say nothing.
    pub options: Options,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum PullPolicy {
    /// When the node has none.
    #[default]
    IfNotPresent,
    /// Whenever a container starts.
    Always,
    /// It must be on the node.
    Never,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, a URL.
    pub endpoint: String,
    /// `OTEL_EXPORTER_OTLP_PROTOCOL`. None: what the endpoint's port means.
    #[serde(default)]
    pub protocol: Option<String>,
}

/// The document.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    image: String,
    image_pull_policy: PullPolicy,
    image_pull_secrets: Vec<String>,
    otlp: Option<Otlp>,
    env: Vec<Value>,
    /// The annotations' names without their prefix, and their values.
    options: BTreeMap<String, Scalar>,
}

/// YAML reads `19400` and `true` as what they look like; an annotation would have them in quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Other(serde_json::Number),
    Flag(bool),
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not a document of settings.
    #[error("settings: {0}")]
    Document(#[from] serde_yaml_ng::Error),
    /// An option is unknown or has a wrong value.
    #[error("settings: options: {0}")]
    Option(#[from] OptionError),
    /// A variable without a name.
    #[error("settings: env: {0} has no name; expected an object like a container's env has")]
    Env(Value),
    /// No image.
    #[error("settings: image is empty")]
    NoImage,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            image: format!("ghcr.io/weir-dev/weir:{}", env!("CARGO_PKG_VERSION")),
            image_pull_policy: PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            otlp: None,
            env: Vec::new(),
            options: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Reads the document; an empty one means the defaults.
    ///
    /// # Errors
    /// [`SettingsError`]
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let document: Option<Document> = serde_yaml_ng::from_str(text)?;
        let document = document.unwrap_or_default();
        let mut options = Options::default();
        for (name, value) in &document.options {
            let value = match value {
                Scalar::Text(text) => text.clone(),
                Scalar::Other(number) => number.to_string(),
                Scalar::Flag(flag) => flag.to_string(),
            };
            options.set(name, &value)?;
        }
        options.check()?;
        let nameless = |entry: &&Value| entry.get("name").and_then(Value::as_str).is_none();
        if let Some(entry) = document.env.iter().find(nameless) {
            return Err(SettingsError::Env(entry.clone()));
        }
        if document.image.trim().is_empty() {
            return Err(SettingsError::NoImage);
        }
        Ok(Self {
            image: document.image,
            image_pull_policy: document.image_pull_policy,
            image_pull_secrets: document.image_pull_secrets,
            otlp: document.otlp.filter(|otlp| !otlp.endpoint.is_empty()),
            env: document.env,
            options,
        })
    }
}

impl PullPolicy {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn error(text: &str) -> String {
        Settings::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_document_means_the_defaults() {
        for text in ["", "{}", "# nothing\n"] {
            assert_eq!(Settings::parse(text).unwrap().options, Options::default());
        }
    }

    #[test]
    fn options_are_read_as_the_annotations_are() {
        let settings = "options: {proxy-uid: 19500, native: false, skip-outbound-ports: '3306', trace-sample-ratio: 0.1}";
        let options = Settings::parse(settings).unwrap().options;
        assert_eq!(options.proxy_uid, 19500);
        assert_eq!(options.skip_outbound_ports, "3306");
        assert_eq!(options.trace_sample_ratio, "0.1");
    }

    #[test]
    fn a_mistake_is_named() {
        expect![
            "settings: unknown field `imagePullPolice`, expected one of `image`, `imagePullPolicy`, `imagePullSecrets`, `otlp`, `env`, `options`"
        ]
        .assert_eq(&error("imagePullPolice: Never"));
        expect!["settings: options: weir.dev/log-levl is unknown; nearest is weir.dev/log-level"]
            .assert_eq(&error("options: {log-levl: info}"));
        expect![[r#"settings: env: {"value":"x"} has no name; expected an object like a container's env has"#]]
            .assert_eq(&error("env: [{value: x}]"));
    }
}
