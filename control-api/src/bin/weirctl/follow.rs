//! Follows what comes: revisions and decisions.

use std::time::Duration;

use control_api::client::Client;
use control_api::view::DecisionFilter;

use crate::output::Output;
use crate::{Failure, show};

/// Prints revisions as they come, until the proxy ends.
pub(crate) async fn revisions(
    client: &Client,
    output: Output,
    since: Option<u64>,
) -> Result<(), Failure> {
    let mut seen = since;
    loop {
        let mut watch = client.watch(seen).await?;
        // The server ends every connection once in a while; whatever else it was, opening again tells.
        while let Ok(Some(revision)) = watch.next().await {
            output.print_next(&revision, show::revision)?;
            seen = Some(revision.revision);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints decisions as they come, until the proxy ends.
pub(crate) async fn decisions(
    client: &Client,
    output: Output,
    mut filter: DecisionFilter,
) -> Result<(), Failure> {
    loop {
        for decision in client.decisions(&filter).await? {
            output.print_next(&decision, show::decision)?;
            filter.since = Some(decision.sequence);
        }
        // After the first look back, everything new is wanted.
        filter.limit = Some(FOLLOW_LIMIT);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// Most decisions a look; the rest is lost, as it would be in the proxy's own ring.
const FOLLOW_LIMIT: usize = 10_000;
