//! The side thread: everything that may never delay a call.

use std::net::TcpListener;
use std::sync::Arc;

use control_api::server::{Counts, Options, Server, TcpOptions};
use control_api::store::FileWatch;
use tokio::task::JoinSet;

use super::introspect::Live;
use super::{Parts, StartError, Started, Stop, system};
use crate::admin::{self, Admin, Readiness, State};
use crate::drain::Draining;
use crate::intercept::bypass;
use crate::memory;
use crate::run::Services;
use crate::telemetry::otlp::SpanExport;

/// What only the side thread serves.
pub(super) struct Chores {
    pub(super) admin: Option<TcpListener>,
    pub(super) services: Services,
    pub(super) file_watch: Option<FileWatch>,
    pub(super) memory_watch: Option<memory::Watch>,
    pub(super) export: Option<SpanExport>,
}

/// Serves until the app stops; says through `started` whether everything listens.
pub(super) async fn serve(parts: Parts, chores: Chores, started: Started) {
    let counts = Arc::<Counts>::default();
    let live = Arc::new(Live::new(&parts, Arc::clone(&counts)));
    let control = match bind_control(&parts, &live, counts) {
        Ok(control) => control,
        Err(error) => return drop(started.send(Err(error))),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(control.serve(stopped(&parts)));
    match chores.admin.map(listener).transpose() {
        Ok(Some(listener)) => {
            let admin = Admin::new(
                parts.shared.telemetry.clone(),
                live,
                parts.readiness.clone(),
            );
            let stop = stopped(&parts);
            tasks.spawn(async move { drop(admin::serve(listener, admin, stop).await) });
        }
        Ok(None) => {}
        Err(error) => return drop(started.send(Err(error))),
    }
    tasks.spawn(drained(parts.draining.clone(), parts.readiness.clone()));
    if let Some(file_watch) = chores.file_watch {
        tasks.spawn(file_watch.run());
    }
    if let Some(memory_watch) = chores.memory_watch {
        tasks.spawn(memory_watch.run());
    }
    if let Some(uid) = parts.settings.proxy_uid {
        let metrics = Arc::clone(parts.shared.telemetry.metrics());
        tasks.spawn(bypass::watch(uid, metrics));
    }
    tasks.spawn(chores.services.serve());
    let _the_starter_waits = started.send(Ok(()));
    match chores.export {
        // Ends after the last span was sent, or its patience is over.
        Some(export) => export.run(stopped(&parts)).await,
        None => stopped(&parts).await,
    }
    tasks.shutdown().await;
}

fn listener(socket: TcpListener) -> Result<tokio::net::TcpListener, StartError> {
    let listener = socket
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(socket));
    listener.map_err(system("listening for the admin server"))
}

/// A draining proxy is not ready: whoever asks can send its calls elsewhere.
async fn drained(mut draining: Draining, readiness: Readiness) {
    draining.started().await;
    readiness.set(State::Draining);
}

/// Ready when the side thread is to end.
fn stopped(parts: &Parts) -> impl Future<Output = ()> + Send + use<> {
    let mut stop = parts.stop.clone();
    async move { drop(stop.wait_for(|stop| *stop >= Stop::Side).await) }
}

fn bind_control(
    parts: &Parts,
    live: &Arc<Live>,
    counts: Arc<Counts>,
) -> Result<Server, StartError> {
    let settings = &parts.settings;
    let mut options = Options::at(settings.control_socket.clone());
    options.counts = counts;
    options.uids.push(control_api::well_known::PROXY_UID);
    if let (Some(address), Some(token_file)) = (settings.control_addr, &settings.control_token_file)
    {
        options.tcp = Some(TcpOptions {
            address,
            token_file: token_file.clone(),
        });
    }
    let policies = Arc::clone(&parts.shared.policies);
    let proxy: Arc<Live> = Arc::clone(live);
    Ok(Server::bind(options, policies, proxy)?)
}
