//! What a push asks a pod's proxy for, and what it is told.

use std::time::Duration;

use control_api::view::{Applied, Destination, Status};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::cluster::Cluster;
use super::exec;
use super::life::Life;
use super::target;
use super::traffic::Traffic;
use crate::Failure;

/// The proxy of one pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proxy<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) pod: &'a str,
    pub(super) uid: Option<&'a str>,
}

/// Why a proxy did not do what it was asked for.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The pod is no more.
    Gone,
    /// Another revision is in force than was to be replaced.
    Stale,
    /// In words.
    Failed(String),
}

impl Proxy<'_> {
    pub(super) async fn status(&self) -> Result<Status, Trouble> {
        self.ask(&["status"], None).await
    }

    /// How its calls have ended since it started.
    pub(super) async fn traffic(&self) -> Result<Traffic, Trouble> {
        let destinations: Vec<Destination> = self.ask(&["destinations"], None).await?;
        Ok(Traffic::of(&destinations))
    }

    /// How its calls have ended, and after that how long it runs and what.
    pub(super) async fn look(&self) -> Result<(Traffic, Life), Trouble> {
        // In this order: a revision that is in force afterwards was so for all that was counted.
        let traffic = self.traffic().await?;
        let asked = Instant::now();
        let status = self.status().await?;
        Ok((traffic, Life::of(&status, asked, Instant::now())))
    }

    /// The policy of a revision, as one may apply it.
    pub(super) async fn policy(&self, revision: u64) -> Result<String, Trouble> {
        let revision = revision.to_string();
        let policy: Value = self.ask(&["get", "--revision", &revision], None).await?;
        Ok(policy.to_string())
    }

    /// Replaces revision `expected`.
    pub(super) async fn apply(
        &self,
        policy: &str,
        expected: u64,
        dry_run: bool,
    ) -> Result<Applied, Trouble> {
        let (length, expected) = (policy.len().to_string(), expected.to_string());
        let mut words = vec!["apply", "-", "--length", &length, "--if-match", &expected];
        if dry_run {
            words.push("--dry-run");
        }
        self.ask(&words, Some(policy.as_bytes())).await
    }

    /// Brings back the policy of revision `earlier` in place of revision `expected`.
    pub(super) async fn roll_back(&self, earlier: u64, expected: u64) -> Result<Applied, Trouble> {
        let (earlier, expected) = (earlier.to_string(), expected.to_string());
        self.ask(&["rollback", &earlier, "--if-match", &expected], None)
            .await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        words: &[&str],
        input: exec::Input<'_>,
    ) -> Result<T, Trouble> {
        let answer = timeout(ASK_TIME_MAX, self.run(words, input)).await;
        let trouble = match answer {
            Ok(Ok((0, out, _))) => match serde_json::from_slice(&out) {
                Ok(answer) => return Ok(answer),
                Err(error) => format!("its answer is not understood: {error}"),
            },
            Ok(Ok((STALE, ..))) => return Err(Trouble::Stale),
            Ok(Ok((code, _, err))) => said(code, &err),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "it did not answer in time".to_owned(),
        };
        // A pod that ends takes its execs along, in whatever words.
        if self.is_gone().await {
            Err(Trouble::Gone)
        } else {
            Err(Trouble::Failed(trouble))
        }
    }

    /// Whether the pod is no more, as far as anybody can tell; another may have its name.
    pub(super) async fn is_gone(&self) -> bool {
        let pod = self.cluster.pod(self.pod).await;
        pod.is_ok_and(|pod| target::is_gone(self.uid, pod.as_ref()))
    }

    async fn run(
        &self,
        words: &[&str],
        input: exec::Input<'_>,
    ) -> Result<(u8, Vec<u8>, Vec<u8>), Failure> {
        let words = words.iter().chain(&["-o", "json"]);
        let words: Vec<String> = words.map(|word| (*word).to_owned()).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut keep_out = |bytes: &[u8]| kept(&mut out, bytes);
        let mut keep_err = |bytes: &[u8]| kept(&mut err, bytes);
        let sinks: exec::Sinks<'_> = (&mut keep_out, &mut keep_err);
        let code = exec::weirctl(self.cluster, self.pod, &words, input, sinks).await?;
        Ok((code, out, err))
    }
}

fn kept(all: &mut Vec<u8>, bytes: &[u8]) -> std::io::Result<()> {
    if all.len().saturating_add(bytes.len()) > ANSWER_BYTES_MAX {
        return Err(std::io::Error::other(
            "it answers with more than anybody reads",
        ));
    }
    all.extend_from_slice(bytes);
    Ok(())
}

/// What the program wrote on standard error, without its name.
fn said(code: u8, err: &[u8]) -> String {
    let text = String::from_utf8_lossy(err);
    let text = text.trim();
    match text.strip_prefix("weirctl: ").unwrap_or(text) {
        "" => format!("exit code {code}"),
        text => text.to_owned(),
    }
}

/// The exit code by which `weirctl` says that another revision is in force.
const STALE: u8 = crate::STALE_EXIT_CODE;
/// Longest wait for an answer; `weirctl` itself waits for 15 seconds.
const ASK_TIME_MAX: Duration = Duration::from_secs(45);
/// Largest answer, in bytes: as the control API's client takes.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
