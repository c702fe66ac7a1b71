//! The side thread: everything that may never delay a call.

use std::net::TcpListener;
use std::sync::mpsc::SyncSender;

use control_api::store::FileWatch;
use tokio::task::JoinSet;

use super::{Parts, StartError, Stop};
use crate::run::Services;

/// Serves until the app stops; says through `started` whether everything listens.
pub(super) async fn serve(
    parts: Parts,
    _admin: Option<TcpListener>,
    services: Services,
    file_watch: Option<FileWatch>,
    started: SyncSender<Result<(), StartError>>,
) {
    let mut tasks = JoinSet::new();
    if let Some(file_watch) = file_watch {
        tasks.spawn(file_watch.run());
    }
    tasks.spawn(services.serve());
    let mut stop = parts.stop.clone();
    let _the_starter_waits = started.send(Ok(()));
    drop(stop.wait_for(|stop| *stop >= Stop::Side).await);
    tasks.shutdown().await;
}
