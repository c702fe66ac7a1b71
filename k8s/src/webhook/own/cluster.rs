//! Reads and writes the two objects in the cluster, and says what to look at when that fails.
//!
//! Every write names the version that was read, so the slower one of two replicas is refused, and looks again. The
//! configuration is read before the Secret: a bundle that is written for the Secret's contents can then not overtake one
//! that was published for newer contents.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Config};
use serde_json::{Map, Value, json};

use super::contents::{Changes, Contents};

/// Where the injector's own objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The injector's namespace.
    pub namespace: String,
    /// The Secret that holds CA and leaf.
    pub secret: String,
    /// The `MutatingWebhookConfiguration` that holds the bundle.
    pub configuration: String,
}

/// The two objects.
#[derive(Debug)]
pub struct Cluster {
    place: Place,
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
}

/// One look at both objects.
#[derive(Debug)]
pub struct Look {
    /// The entries of the configuration, and each one's bundle in PEM.
    pub entries: Vec<String>,
    /// Empty: the entry has none.
    pub bundles: Vec<Vec<u8>>,
    configuration_version: String,
    /// None: there is no Secret.
    pub secret: Option<SecretLook>,
}

/// One look at the Secret.
#[derive(Debug)]
pub struct SecretLook {
    /// What it holds.
    pub contents: Contents,
    version: String,
}

/// Why a look or a write failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is neither a service account nor a kubeconfig, or it cannot be used.
    #[error("{0}; has the pod a service account's token (automountServiceAccountToken)?")]
    Access(#[source] Box<kube::Error>),
    /// The API server forbids it.
    #[error(
        "may not {verb} {object}: {said}; do the rights of the injector's service account name it?"
    )]
    Forbidden {
        /// Such as `patch`.
        verb: &'static str,
        /// Such as `secrets weir-system/weir-injector-self-certs`.
        object: String,
        /// What the API server said.
        said: String,
    },
    /// The object is not there.
    #[error("{object} is not there; `helm upgrade` brings it back")]
    Absent {
        /// Which.
        object: String,
    },
    /// The configuration calls nobody.
    #[error("{object} has no entry; `helm upgrade` brings them back")]
    Empty {
        /// Which.
        object: String,
    },
    /// Somebody wrote it since it was read.
    #[error("{object} was written by another replica at the same time")]
    Conflict {
        /// Which.
        object: String,
    },
    /// The API server refused it for another reason.
    #[error("cannot {verb} {object}: the API server says {code}: {said}")]
    Refused {
        /// Such as `patch`.
        verb: &'static str,
        /// Which.
        object: String,
        /// The status.
        code: u16,
        /// What the API server said.
        said: String,
    },
    /// The API server does not answer.
    #[error(
        "cannot {verb} {object}: {source}; is the API server up, and does a NetworkPolicy let the injector reach it?"
    )]
    Unreachable {
        /// Such as `get`.
        verb: &'static str,
        /// Which.
        object: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ClusterError {
    /// Its name in the metric.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Access(_) | Self::Unreachable { .. } => "unreachable",
            Self::Forbidden { .. } => "forbidden",
            Self::Absent { .. } | Self::Empty { .. } => "absent",
            Self::Conflict { .. } => "conflict",
            Self::Refused { .. } => "refused",
        }
    }
}

/// The API server as the pod reaches it, or as a kubeconfig says.
///
/// # Errors
/// [`ClusterError::Access`]
pub async fn client() -> Result<Client, ClusterError> {
    let access = |error| ClusterError::Access(Box::new(error));
    let mut config = Config::infer()
        .await
        .map_err(|error| access(kube::Error::InferConfig(error)))?;
    config.connect_timeout = Some(REQUEST_MAX);
    config.read_timeout = Some(REQUEST_MAX);
    config.write_timeout = Some(REQUEST_MAX);
    // A look that failed is repeated as a whole: the objects may have changed.
    config.default_retry = false;
    Client::try_from(config).map_err(access)
}

impl Cluster {
    /// By way of `client`.
    #[must_use]
    pub fn new(client: Client, place: Place) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &place.namespace),
            configurations: Api::all(client),
            place,
        }
    }

    /// Reads both objects.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn look(&self) -> Result<Look, ClusterError> {
        let Place {
            secret,
            configuration,
            ..
        } = &self.place;
        let object = self.configuration_named();
        let read = self.configurations.get_opt(configuration);
        let Some(found) = ask("get", &object, read).await? else {
            return Err(ClusterError::Absent { object });
        };
        let webhooks = found.webhooks.unwrap_or_default();
        if webhooks.is_empty() {
            return Err(ClusterError::Empty { object });
        }
        let (entries, bundles) = webhooks
            .into_iter()
            .map(|webhook| {
                let bundle = webhook.client_config.ca_bundle;
                (
                    webhook.name,
                    bundle.map(|bytes| bytes.0).unwrap_or_default(),
                )
            })
            .unzip();
        let read = self.secrets.get_opt(secret);
        let found_secret = ask("get", &self.secret_named(), read).await?;
        Ok(Look {
            entries,
            bundles,
            configuration_version: found.metadata.resource_version.unwrap_or_default(),
            secret: found_secret.map(|secret| SecretLook {
                contents: Contents::read(&secret.data.unwrap_or_default()),
                version: secret.metadata.resource_version.unwrap_or_default(),
            }),
        })
    }

    /// Makes an empty Secret; does nothing if there is one by now.
    ///
    /// By server-side apply: it is the one way to create whose right can be bound to a name.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn create_secret(&self) -> Result<(), ClusterError> {
        let Place {
            namespace, secret, ..
        } = &self.place;
        let empty = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": secret, "namespace": namespace},
        });
        let (params, patch) = (PatchParams::apply(MANAGER), Patch::Apply(&empty));
        let written = self.secrets.patch(secret, &params, &patch);
        ask("create", &self.secret_named(), written).await?;
        Ok(())
    }

    /// Writes `changes` to the Secret, if it is as it was read.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn write_secret(
        &self,
        look: &SecretLook,
        changes: Changes,
    ) -> Result<(), ClusterError> {
        let data: Map<String, Value> = changes
            .into_iter()
            .map(|(key, value)| (key.to_owned(), BASE64_STANDARD.encode(value).into()))
            .collect();
        let patch = json!({"metadata": {"resourceVersion": look.version}, "data": data});
        let (params, patch) = (managed(), Patch::Merge(&patch));
        let written = self.secrets.patch(&self.place.secret, &params, &patch);
        ask("patch", &self.secret_named(), written).await?;
        Ok(())
    }

    /// Makes `bundle` every entry's, if the configuration is as it was read.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn write_bundle(&self, look: &Look, bundle: &str) -> Result<(), ClusterError> {
        let bundle = BASE64_STANDARD.encode(bundle);
        // Merged by the entries' names; nothing else of them is touched.
        let entries: Vec<Value> = look
            .entries
            .iter()
            .map(|name| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        let version = &look.configuration_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "webhooks": entries});
        let (params, patch) = (managed(), Patch::Strategic(&patch));
        let name = &self.place.configuration;
        let written = self.configurations.patch(name, &params, &patch);
        ask("patch", &self.configuration_named(), written).await?;
        Ok(())
    }

    fn secret_named(&self) -> String {
        format!("secrets {}/{}", self.place.namespace, self.place.secret)
    }

    fn configuration_named(&self) -> String {
        format!("mutatingwebhookconfigurations {}", self.place.configuration)
    }
}

fn managed() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// Waits for an answer, not for ever, and explains what went wrong.
async fn ask<T>(
    verb: &'static str,
    object: &str,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ClusterError> {
    let object = object.to_owned();
    let unreachable = |object, source| ClusterError::Unreachable {
        verb,
        object,
        source,
    };
    let error = match tokio::time::timeout(REQUEST_MAX, answer).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error,
        Err(late) => return Err(unreachable(object, late.into())),
    };
    let kube::Error::Api(status) = error else {
        return Err(unreachable(object, Causes(&error).to_string().into()));
    };
    let said = status.message.clone();
    Err(match status.code {
        401 | 403 => ClusterError::Forbidden { verb, object, said },
        404 => ClusterError::Absent { object },
        409 => ClusterError::Conflict { object },
        code => ClusterError::Refused {
            verb,
            object,
            code,
            said,
        },
    })
}

/// An error with all its causes: the outer ones say only that a service failed.
struct Causes<'a>(&'a dyn std::error::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let says = error.to_string();
            if !said.contains(&says) {
                write!(f, ": {says}")?;
            }
            (said, cause) = (says, error.source());
        }
        Ok(())
    }
}

/// Longest that one answer may take.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Who wrote it, in the objects' `managedFields`.
const MANAGER: &str = "weir-injector";
