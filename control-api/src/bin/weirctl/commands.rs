//! Runs one command.

use std::process::ExitCode;
use std::time::Duration;

use control_api::client::{Client, DryRun, IfMatch, find_socket};
use control_api::view::DecisionFilter;
use serde_json::Value;

use crate::arguments::{Arguments, Command, DecisionsArguments, Format};
use crate::output::Output;
use crate::{Failure, follow, leash, offline, show, wait};

/// Runs the command that was typed, here or in a pod.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    #[cfg(feature = "fleet")]
    {
        let Arguments {
            cluster,
            command,
            output,
            ..
        } = &arguments;
        if let Some(pod) = &cluster.pod {
            return Box::pin(crate::fleet::one_pod(pod, cluster, command, *output)).await;
        }
    }
    run_here(arguments).await.map(|()| ExitCode::SUCCESS)
}

async fn run_here(arguments: Arguments) -> Result<(), Failure> {
    let output = Output::new(arguments.output);
    let client = || -> Result<Client, Failure> {
        match &arguments.socket {
            Some(socket) => Ok(Client::at(socket)),
            None => Ok(Client::at(find_socket()?)),
        }
    };
    match arguments.command {
        Command::Status => output.print(&client()?.status().await?, show::status),
        Command::Wait { timeout } => wait::until_served(client, Duration::from_secs(timeout)).await,
        Command::Get { revision } => get(&client()?, output, revision).await,
        Command::Apply {
            file,
            dry_run,
            if_match,
            length,
        } => {
            let policy = offline::read_value(&file, length)?;
            let dry_run = dry_run_of(dry_run);
            apply(&client()?, output, &policy, if_match, dry_run).await
        }
        Command::Diff { file, length } => {
            let policy = offline::read_value(&file, length)?;
            let if_match = Some(IfMatch::Any);
            apply(&client()?, output, &policy, if_match, DryRun::Yes).await
        }
        #[cfg(feature = "fleet")]
        Command::Push(push) => {
            let context = arguments.cluster.context.as_deref();
            Box::pin(crate::fleet::push(&push, context, output)).await
        }
        Command::Check { file } => offline::check(output, &file),
        Command::History => output.print(&client()?.revisions().await?, |all| show::revisions(all)),
        Command::Rollback {
            revision,
            if_match,
            dry_run,
        } => {
            let (if_match, dry_run) = (if_match.unwrap_or(IfMatch::Any), dry_run_of(dry_run));
            let applied = client()?.rollback(revision, if_match, dry_run).await?;
            output.print(&applied, show::applied)
        }
        Command::Watch { since, until_eof } => {
            leash::on(until_eof, follow::revisions(&client()?, output, since)).await
        }
        Command::Decisions(wanted) => decisions(&client()?, output, wanted).await,
        Command::Destinations => output.print(&client()?.destinations().await?, |all| {
            show::destinations(all)
        }),
        Command::Connections => output.print(&client()?.connections().await?, |all| {
            show::connections(all)
        }),
        Command::LogLevel { level } => {
            let level = client()?.set_log_level(&level).await?;
            output.print(&level, |level| format!("log level {}\n", level.level))
        }
        Command::Explain { method, url, file } => {
            let (revision, policy) = if let Some(file) = file {
                (None, offline::read_document(&file)?)
            } else {
                let (revision, policy) = client()?.policy().await?;
                (Some(revision), serde_json::from_value(policy)?)
            };
            offline::explain(output, &policy, revision, &method, &url)
        }
    }
}

async fn get(client: &Client, output: Output, revision: Option<u64>) -> Result<(), Failure> {
    let policy = match revision {
        Some(revision) => client.revision(revision).await?,
        None => client.policy().await?.1,
    };
    output.or(Format::Yaml).print(&policy, Value::to_string)
}

/// Without a word about it, the revision to be replaced is the one in force when we start: whoever comes between is not
/// overwritten.
async fn apply(
    client: &Client,
    output: Output,
    policy: &Value,
    if_match: Option<IfMatch>,
    dry_run: DryRun,
) -> Result<(), Failure> {
    let if_match = match if_match {
        Some(if_match) => if_match,
        None => IfMatch::Revision(client.policy().await?.0),
    };
    let applied = client.replace(policy, if_match, dry_run).await?;
    output.print(&applied, show::applied)
}

async fn decisions(
    client: &Client,
    output: Output,
    wanted: DecisionsArguments,
) -> Result<(), Failure> {
    let filter = DecisionFilter {
        trace: wanted.trace,
        destination: wanted.destination,
        since: None,
        limit: Some(wanted.limit),
    };
    if wanted.follow {
        let following = follow::decisions(client, output, filter);
        return leash::on(wanted.until_eof, following).await;
    }
    let decisions = client.decisions(&filter).await?;
    output.print(&decisions, |all| show::decisions(all))
}

fn dry_run_of(flag: bool) -> DryRun {
    if flag { DryRun::Yes } else { DryRun::No }
}
