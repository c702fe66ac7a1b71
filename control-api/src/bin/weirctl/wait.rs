//! Waits for a proxy that is starting: what a container beside the application's does before the application may start.

use std::time::Duration;

use control_api::client::Client;
use tokio::time::Instant;

use crate::Failure;

/// Asks until there is an answer, with a new client each time: at first there may be no socket at all.
pub(crate) async fn until_served(
    client: impl Fn() -> Result<Client, Failure>,
    timeout: Duration,
) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let answer = match client() {
            Ok(client) => client.status().await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(_) => return Ok(()),
            Err(failure) if begun.elapsed() >= timeout => return Err(failure),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Time between two tries: the application waits for it.
const PAUSE: Duration = Duration::from_millis(50);
