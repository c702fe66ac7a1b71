//! Runs one command.

use std::path::Path;
use std::time::Duration;

use control_api::client::{Client, DryRun, IfMatch, find_socket};
use control_api::document::text_value;
use control_api::view::DecisionFilter;
use serde_json::Value;

use crate::arguments::{Arguments, Command, Format};
use crate::output::Output;
use crate::{Failure, follow, offline, show, wait};

/// Runs the command that was typed.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
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
        } => apply(&client()?, output, &file, dry_run_of(dry_run), if_match).await,
        Command::Diff { file } => {
            let if_match = Some(IfMatch::Any);
            apply(&client()?, output, &file, DryRun::Yes, if_match).await
        }
        Command::Check { file } => offline::check(output, &file),
        Command::History => output.print(&client()?.revisions().await?, |all| show::revisions(all)),
        Command::Rollback { revision, dry_run } => {
            let dry_run = dry_run_of(dry_run);
            let applied = client()?.rollback(revision, dry_run).await?;
            output.print(&applied, show::applied)
        }
        Command::Watch { since } => follow::revisions(&client()?, output, since).await,
        Command::Decisions {
            trace,
            destination,
            limit,
            follow,
        } => {
            let filter = DecisionFilter {
                trace,
                destination,
                since: None,
                limit: Some(limit),
            };
            decisions(&client()?, output, filter, follow).await
        }
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
    file: &Path,
    dry_run: DryRun,
    if_match: Option<IfMatch>,
) -> Result<(), Failure> {
    let text = offline::read(file)?;
    let policy = text_value(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let if_match = match if_match {
        Some(if_match) => if_match,
        None => IfMatch::Revision(client.policy().await?.0),
    };
    let applied = client.replace(&policy, if_match, dry_run).await?;
    output.print(&applied, show::applied)
}

async fn decisions(
    client: &Client,
    output: Output,
    filter: DecisionFilter,
    follow: bool,
) -> Result<(), Failure> {
    if follow {
        return follow::decisions(client, output, filter).await;
    }
    let decisions = client.decisions(&filter).await?;
    output.print(&decisions, |all| show::decisions(all))
}

fn dry_run_of(flag: bool) -> DryRun {
    if flag { DryRun::Yes } else { DryRun::No }
}
