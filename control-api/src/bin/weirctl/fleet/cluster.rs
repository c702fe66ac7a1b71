//! The API server of a cluster: pods, and `ConfigMap`s, of one namespace.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, PostParams};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};
use tokio::time::timeout;

use crate::Failure;

/// One namespace of a cluster.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) namespace: String,
    pub(super) pods: Api<Pod>,
    config_maps: Api<ConfigMap>,
}

impl Cluster {
    /// The cluster of the kubeconfig's context, or the one that this runs in. Nothing is asked yet.
    pub(super) async fn connect(
        context: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<Self, Failure> {
        let config = match context {
            Some(context) => {
                let options = KubeConfigOptions {
                    context: Some(context.to_owned()),
                    ..KubeConfigOptions::default()
                };
                Config::from_kubeconfig(&options)
                    .await
                    .map_err(Failure::from)
            }
            None => Config::infer().await.map_err(Failure::from),
        };
        let mut config = config.map_err(|error| {
            format!(
                "no cluster to ask: {}; is KUBECONFIG right?",
                chain(error.as_ref())
            )
        })?;
        config.connect_timeout = Some(CONNECT_TIME_MAX);
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        let client = Client::try_from(config).map_err(|error| chain(&error))?;
        Ok(Self {
            pods: Api::namespaced(client.clone(), &namespace),
            config_maps: Api::namespaced(client, &namespace),
            namespace,
        })
    }

    /// Every pod of the selector, in the order of their names.
    pub(super) async fn select(&self, selector: &str) -> Result<Vec<Pod>, Failure> {
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        let mut pods = Vec::new();
        loop {
            let page = bounded(self.pods.list(&params)).await;
            let page = page.map_err(|error| self.said(error, "list", "pods"))?;
            pods.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(_) if pods.len() >= PODS_MAX => {
                    return Err(format!("more than {PODS_MAX} pods; narrow the selector").into());
                }
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        pods.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        Ok(pods)
    }

    /// The pod of this name, if there is one.
    pub(super) async fn pod(&self, name: &str) -> Result<Option<Pod>, Failure> {
        let pod = bounded(self.pods.get_opt(name)).await;
        pod.map_err(|error| self.said(error, "get", "pods").into())
    }

    /// The `ConfigMap` of this name, if there is one.
    pub(super) async fn config_map(&self, name: &str) -> Result<Option<ConfigMap>, Failure> {
        let found = bounded(self.config_maps.get_opt(name)).await;
        found.map_err(|error| self.said(error, "get", "configmaps").into())
    }

    /// Writes a `ConfigMap` that is not there.
    pub(super) async fn create(&self, map: &ConfigMap) -> Result<(), Unwritten> {
        let params = PostParams::default();
        let created = bounded(self.config_maps.create(&params, map)).await;
        self.written(created, "create")
    }

    /// Writes a `ConfigMap`, if it is still as it was read.
    pub(super) async fn replace(&self, name: &str, map: &ConfigMap) -> Result<(), Unwritten> {
        let params = PostParams::default();
        let replaced = bounded(self.config_maps.replace(name, &params, map)).await;
        self.written(replaced, "update")
    }

    fn written<T>(&self, done: Result<T, Unanswered>, verb: &str) -> Result<(), Unwritten> {
        match done {
            Ok(_) => Ok(()),
            Err(Unanswered::Refused(kube::Error::Api(status))) if status.code == CONFLICT => {
                Err(Unwritten::Conflict)
            }
            Err(error) => Err(Unwritten::Failed(self.said(error, verb, "configmaps"))),
        }
    }

    /// What went wrong, and if a right is missing, which.
    pub(super) fn said(&self, error: Unanswered, verb: &str, resource: &str) -> String {
        let namespace = &self.namespace;
        match error {
            Unanswered::TimedOut => {
                format!("{verb} {resource}: the API server did not answer in time")
            }
            Unanswered::Refused(kube::Error::Api(status)) if status.code == FORBIDDEN => format!(
                "forbidden: {}; needed in namespace {namespace}: {verb} {resource} (the Role is in k8s/README.md)",
                status.message
            ),
            Unanswered::Refused(kube::Error::Api(status)) => {
                format!("{verb} {resource}: {} ({})", status.message, status.code)
            }
            Unanswered::Refused(error) => format!("{verb} {resource}: {}", chain(&error)),
        }
    }
}

/// A request without a good answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    TimedOut,
    Refused(kube::Error),
}

/// A `ConfigMap` that was not written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// Somebody else wrote it meanwhile.
    Conflict,
    Failed(String),
}

/// The request's answer, if it comes in time.
pub(super) async fn bounded<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Unanswered> {
    match timeout(REQUEST_TIME_MAX, request).await {
        Ok(answer) => answer.map_err(Unanswered::Refused),
        Err(_) => Err(Unanswered::TimedOut),
    }
}

/// An error and its causes: kube's own texts leave them out.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

const FORBIDDEN: u16 = 403;
const CONFLICT: u16 = 409;
/// Longest wait for a connection to the API server.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest wait for an answer: retries of a busy API server are in it.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Pods an answer.
const PAGE: u32 = 500;
/// Most pods of a push.
const PODS_MAX: usize = 5000;
