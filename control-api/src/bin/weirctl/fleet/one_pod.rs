//! Runs one command in one pod, and is to whoever typed it as if it ran here.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::timeout;

use super::cluster::Cluster;
use super::names::PodName;
use super::words::{Input, words};
use super::{ClusterArguments, exec, target};
use crate::arguments::{Command, Format};
use crate::{Failure, offline};

/// Runs the command in the pod; its exit code is ours.
pub(crate) async fn one_pod(
    pod: &PodName,
    cluster: &ClusterArguments,
    command: &Command,
    output: Option<Format>,
) -> Result<ExitCode, Failure> {
    let mut line = words(command, output)?;
    let input = match &line.input {
        Input::Nothing => None,
        Input::Presence => Some(String::new()),
        Input::File(file) => Some(offline::read(file, None)?),
    };
    if let (Input::File(_), Some(text)) = (&line.input, &input) {
        line.words.push(text.len().to_string());
    }
    let PodName { namespace, name } = pod;
    let cluster = Cluster::connect(cluster.context.as_deref(), namespace.as_deref()).await?;
    check(&cluster, name).await?;
    let mut out = |bytes: &[u8]| passed_on(&mut io::stdout().lock(), bytes);
    let mut err = |bytes: &[u8]| passed_on(&mut io::stderr().lock(), bytes);
    let input = input.as_deref().map(str::as_bytes);
    let code = exec::weirctl(&cluster, name, &line.words, input, (&mut out, &mut err));
    let code = match time_max(command, &line.input) {
        None => code.await?,
        Some(length) => timeout(length, code).await.map_err(|_| {
            let namespace = &cluster.namespace;
            format!(
                "pod {namespace}/{name} did not answer within {} s; is its node there (kubectl get nodes)?",
                length.as_secs()
            )
        })??,
    };
    Ok(ExitCode::from(code))
}

/// Longest that the command may take. None: it goes on until whoever typed it ends it.
fn time_max(command: &Command, input: &Input) -> Option<Duration> {
    let own = match (command, input) {
        (_, Input::Presence) => return None,
        (Command::Wait { timeout }, _) => Duration::from_secs(*timeout),
        _ => Duration::ZERO,
    };
    Some(own.saturating_add(ANSWER_TIME_MAX))
}

async fn check(cluster: &Cluster, name: &str) -> Result<(), Failure> {
    let namespace = &cluster.namespace;
    let Some(pod) = cluster.pod(name).await? else {
        return Err(format!(
            "no pod {name} in namespace {namespace}; which one is meant: --pod NS/NAME"
        )
        .into());
    };
    target::check(&pod).map_err(|why| {
        let advice = if target::has_proxy(&pod) {
            String::new()
        } else {
            format!("; label the namespace (kubectl label namespace {namespace} weir.dev/inject=enabled) and restart the pod")
        };
        format!("pod {namespace}/{name}: {why}{advice}").into()
    })
}

/// As long as a push waits for a pod.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(45);

fn passed_on(into: &mut impl io::Write, bytes: &[u8]) -> io::Result<()> {
    into.write_all(bytes)?;
    into.flush()
}
