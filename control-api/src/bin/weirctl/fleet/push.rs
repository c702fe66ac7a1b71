//! `weirctl push`: from the file and the selector to the report.

use std::collections::BTreeSet;
use std::io;

use control_api::document::Document;
use k8s_openapi::api::core::v1::Pod;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::PushArguments;
use super::cluster::Cluster;
use super::report::{PodResult, Report, Row, Rows, show};
use super::rollout::Rollout;
use super::save::{Save, elsewhere};
use super::target::{check, policy_config_map};
use crate::output::Output;
use crate::{Failure, offline};

/// Puts a policy into force in every pod of a selector.
pub(crate) async fn push(
    arguments: &PushArguments,
    context: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let file = arguments.file.display();
    let text = offline::read(&arguments.file, None)?;
    let document = Document::parse(&text).map_err(|error| format!("{file}:\n{error}"))?;
    let cluster = Cluster::connect(context, arguments.namespace.as_deref()).await?;
    let pods = cluster.select(&arguments.selector).await?;
    let rows: Vec<Row> = pods.iter().map(row).collect();
    if rows.iter().all(|row| row.result == PodResult::Skipped) {
        return Err(nobody(&cluster, &arguments.selector, &rows).into());
    }
    let save = match &arguments.save {
        Some(name) => Some(Save::read(&cluster, name, &mounted(&pods), &text).await?),
        None => None,
    };
    let mut notes = save
        .as_ref()
        .map_or_else(Vec::new, |save| elsewhere(&pods, save));

    let mut interrupted = Interrupts::listen()?;
    let rollout = Rollout::new(&cluster, &text, arguments, Rows::new(rows), output);
    let stopped = tokio::select! {
        biased;
        // What is under way is dropped at its next wait, and the rows tell how far it came.
        () = interrupted.next() => Some(INTERRUPTED.to_owned()),
        done = rollout.run() => done.err(),
    };
    let (rows, said) = rollout.into_parts();
    notes.extend(said);
    let mut report = Report {
        namespace: cluster.namespace.clone(),
        selector: arguments.selector.clone(),
        pods: rows,
        warnings: document.warnings(),
        notes,
        stopped,
    };
    match save {
        Some(save) if report.stopped.is_none() && !arguments.dry_run => {
            let written = tokio::select! {
                biased;
                () = interrupted.next() => Err(INTERRUPTED_SAVING.into()),
                written = save.write(&cluster, &text) => written,
            };
            match written {
                Ok(said) => report.notes.push(said),
                Err(why) => report.stopped = Some(why.to_string()),
            }
        }
        Some(_) => report.notes.push("no ConfigMap is written".to_owned()),
        None => {}
    }
    output.print(&report, show)?;
    match report.stopped {
        Some(why) => Err(why.into()),
        None => Ok(()),
    }
}

/// What ends a push before its time: a terminal's SIGINT, and the SIGTERM of whatever cancels a job.
struct Interrupts {
    terminal: Signal,
    job: Signal,
}

impl Interrupts {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminal: signal(SignalKind::interrupt())?,
            job: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminal.recv() => {}
            _ = self.job.recv() => {}
        }
    }
}

fn row(pod: &Pod) -> Row {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let mut row = Row::new(name, pod.metadata.uid.clone());
    if let Err(why) = check(pod) {
        row.ends(PodResult::Skipped, why);
    }
    row
}

/// The `ConfigMap`s that those pods start from that can be asked.
fn mounted(pods: &[Pod]) -> BTreeSet<String> {
    let running = pods.iter().filter(|pod| check(pod).is_ok());
    running
        .filter_map(policy_config_map)
        .map(str::to_owned)
        .collect()
}

/// Why there is nobody to push to.
fn nobody(cluster: &Cluster, selector: &str, skipped: &[Row]) -> String {
    let namespace = &cluster.namespace;
    if skipped.is_empty() {
        return format!("no pods in namespace {namespace} have the labels {selector}");
    }
    let lines = skipped
        .iter()
        .map(|row| format!("\n  {}: {}", row.pod, row.detail));
    format!(
        "none of the pods in namespace {namespace} with the labels {selector} runs a proxy; are they injected (label \
         weir.dev/inject=enabled on the namespace), and restarted since?{}",
        lines.collect::<String>()
    )
}

const INTERRUPTED: &str = "interrupted; each pod has the revision that the table shows: push again, or roll back one by one (weirctl --pod)";
const INTERRUPTED_SAVING: &str = "interrupted; the pods above have the policy, and nobody knows whether the ConfigMap has: push again";
