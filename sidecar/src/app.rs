//! Puts the parts together: the only wiring.
//!
//! One thread a worker forwards calls; one more, the *side thread*, has everything that may never delay a call: the
//! admin server, the control API, the policy file's watch, the exporter, and the services of `weir run`.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use control_api::store::{Sources, Store};
use control_api::view;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::admin::{Readiness, State};
use crate::connection::{self, Inlet};
use crate::destination::Destinations;
use crate::drain::{self, Drain, Draining};
use crate::http::replay::ByteBudget;
use crate::intercept::client_end::Ends;
use crate::intercept::connections::Connections;
use crate::intercept::descriptors;
use crate::intercept::detect::race::Patience;
use crate::intercept::detect::remembered::Remembered;
use crate::intercept::inside::Inside;
use crate::intercept::listener::Listener;
use crate::memory::Memory;
use crate::proxy::{Proxy, Shared};
use crate::run::Services;
use crate::settings::Settings;
use crate::telemetry::log::{Format, Log, LogError};
use crate::telemetry::{self, Telemetry, probe};
use crate::upstream::{Upstream, connect};
use crate::wire::explicit;
use side::Chores;

pub mod commands;
mod introspect;
mod side;

/// The sockets that are served; all are bound already.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Redirected connections, a list a worker.
    pub outbound: Vec<Vec<TcpListener>>,
    /// The explicit proxy, a list a worker.
    pub explicit: Vec<Vec<TcpListener>>,
    /// The admin server. None: there is none.
    pub admin: Option<TcpListener>,
    /// Who knows of the application's ends of its connections.
    pub ends: Ends,
    /// The way into the namespace of `weir run`.
    pub inside: Option<Inside>,
    /// What that namespace needs besides.
    pub services: Services,
}

/// A running proxy.
#[derive(Debug)]
pub struct App {
    drain: Drain,
    workers: Vec<JoinHandle<()>>,
    side: JoinHandle<()>,
    connections: Arc<Connections>,
    stop: watch::Sender<Stop>,
    log: Log,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    No,
    /// Connections that are still open are dropped.
    Workers,
    /// Spans are flushed; then the side thread ends.
    Side,
}

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The control API has no socket.
    #[error("control API: {0}")]
    Control(#[from] control_api::server::BindError),
    /// There is no log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A thread or its runtime could not be made.
    #[error("{step}: {source}; are processes or descriptors limited too tightly?")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What every part is made from.
#[derive(Debug, Clone)]
struct Parts {
    settings: Settings,
    log: Log,
    listeners: Vec<view::Listener>,
    shared: Arc<Shared>,
    remembered: Arc<Remembered>,
    connections: Arc<Connections>,
    ends: Ends,
    inside: Option<Inside>,
    draining: Draining,
    readiness: Readiness,
    stop: watch::Receiver<Stop>,
}

impl App {
    /// Starts all threads; when it returns, every socket is being served.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(
        mut settings: Settings,
        telemetry: telemetry::settings::Settings,
        sockets: Sockets,
    ) -> Result<Self, StartError> {
        let (telemetry, export) = Telemetry::new(telemetry);
        let log = Log::start(&settings.log_level, Format::detected(), telemetry.metrics())?;
        let listeners = listeners(&settings, &sockets);
        if sockets.ends.are_unknown() {
            tracing::info!(
                "the kernel does not tell who holds a connection; half-closes are told by time"
            );
        }
        let sources = Sources {
            file: settings.policy_file.clone(),
            state_dir: settings.state_dir.clone(),
            mode: settings.mode,
        };
        let (policies, file_watch) = Store::open(sources);
        let (drain, draining) = drain::channel();
        let (stop, stopping) = watch::channel(Stop::No);
        let (memory, memory_watch) = settings.memory_max.map(Memory::bounded).unzip();
        let memory = memory.unwrap_or_default();
        let connections = connections(&mut settings, Arc::clone(&memory), &telemetry);
        let parts = Parts {
            shared: Arc::new(Shared {
                policies,
                destinations: Arc::new(Destinations::new(DESTINATIONS_MAX).within(memory)),
                telemetry,
                kept_bytes: Arc::new(ByteBudget::new(settings.body_bytes_total_max)),
            }),
            settings,
            log: log.clone(),
            listeners,
            remembered: Arc::default(),
            connections: Arc::clone(&connections),
            ends: sockets.ends,
            inside: sockets.inside,
            draining,
            readiness: Readiness::default(),
            stop: stopping,
        };
        let chores = Chores {
            admin: sockets.admin,
            services: sockets.services,
            file_watch,
            memory_watch,
            export,
        };
        let side = start_side(parts.clone(), chores)?;
        let workers = start_workers(&parts, sockets.outbound, sockets.explicit)?;
        parts.readiness.set(State::Ready);
        Ok(Self {
            drain,
            workers,
            side,
            connections,
            stop,
            log,
        })
    }

    /// The application's open connections.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// What starts the drain.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Ends what is still open, flushes what is to be exported, and returns when all threads have ended.
    pub fn stop(self) {
        self.drain.start();
        self.stop.send_replace(Stop::Workers);
        for worker in self.workers {
            note_panic(&worker.join());
        }
        self.stop.send_replace(Stop::Side);
        note_panic(&self.side.join());
        self.log.flush();
    }
}

/// The application's connections: as many as are wanted, or as there are descriptors for. Those to servers may be as many.
fn connections(
    settings: &mut Settings,
    memory: Arc<Memory>,
    telemetry: &Telemetry,
) -> Arc<Connections> {
    let descriptors = descriptors::raise();
    let wanted = settings.connections_max;
    let most = descriptors::connections_max(wanted, descriptors, settings.workers);
    if most < wanted {
        tracing::info!(
            connections_max = most,
            wanted,
            descriptors,
            "the limit of open files bounds connections"
        );
    }
    settings.upstream.open_max = most.div_ceil(settings.workers);
    let metrics = Arc::clone(telemetry.metrics());
    Arc::new(Connections::new(most, memory, metrics))
}

/// Where everything listens, for people.
fn listeners(settings: &Settings, sockets: &Sockets) -> Vec<view::Listener> {
    let listener = |name: &str, address: String| view::Listener {
        name: name.to_owned(),
        address,
    };
    let bound = |name: &'static str, sockets: &[TcpListener]| {
        let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok());
        addresses
            .map(|address| listener(name, address.to_string()))
            .collect::<Vec<_>>()
    };
    // Every worker listens on the same addresses.
    let mut all = bound(
        "outbound",
        sockets.outbound.first().map_or(&[], Vec::as_slice),
    );
    all.extend(bound(
        "explicit-proxy",
        sockets.explicit.first().map_or(&[], Vec::as_slice),
    ));
    all.extend(bound("admin", sockets.admin.as_slice()));
    all.push(listener(
        "control",
        settings.control_socket.display().to_string(),
    ));
    let control_addr = settings.control_addr.iter();
    all.extend(control_addr.map(|address| listener("control", address.to_string())));
    all
}

/// One thread a worker.
fn start_workers(
    parts: &Parts,
    outbound: Vec<Vec<TcpListener>>,
    explicit: Vec<Vec<TcpListener>>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let mut outbound = outbound.into_iter();
    let mut explicit = explicit.into_iter();
    (0..parts.settings.workers)
        .map(|number| {
            let parts = parts.clone();
            let outbound = outbound.next().unwrap_or_default();
            let explicit = explicit.next().unwrap_or_default();
            start_thread(format!("weir-worker-{number}"), move |started| {
                work(number, parts, outbound, explicit, started)
            })
        })
        .collect()
}

fn note_panic(ended: &std::thread::Result<()>) {
    if ended.is_err() {
        tracing::error!("a thread ended with a panic");
    }
}

/// Starts the side thread, and waits until it listens.
fn start_side(parts: Parts, chores: Chores) -> Result<JoinHandle<()>, StartError> {
    start_thread("weir-side".to_owned(), |started| {
        side::serve(parts, chores, started)
    })
}

/// Starts a thread with a runtime for `serve`, and waits until that says that it listens.
fn start_thread<F>(
    name: String,
    serve: impl FnOnce(Started) -> F + Send + 'static,
) -> Result<JoinHandle<()>, StartError>
where
    F: Future<Output = ()>,
{
    let (started, starting) = mpsc::sync_channel(1);
    let work = move || match runtime() {
        Ok(runtime) => runtime.block_on(serve(started)),
        Err(error) => drop(started.send(Err(system("making a runtime")(error)))),
    };
    let thread = std::thread::Builder::new().name(name).spawn(work);
    let thread = thread.map_err(system("starting a thread"))?;
    let gone = |_| system("starting a thread")(io::ErrorKind::BrokenPipe.into());
    starting.recv().map_err(gone)??;
    Ok(thread)
}

/// Says whether a thread listens; to be used once.
type Started = mpsc::SyncSender<Result<(), StartError>>;

/// One worker: its upstream connections, its listeners.
async fn work(
    number: usize,
    parts: Parts,
    outbound: Vec<TcpListener>,
    explicit: Vec<TcpListener>,
    started: Started,
) {
    let connections = &parts.connections;
    let listeners = Listener::new(outbound, Arc::clone(connections))
        .and_then(|outbound| Ok((outbound, Listener::new(explicit, Arc::clone(connections))?)));
    match listeners {
        Ok((outbound, explicit)) => {
            let _the_starter_waits = started.send(Ok(()));
            serve(number, parts, outbound, explicit).await;
        }
        Err(error) => drop(started.send(Err(system("listening")(error)))),
    }
}

async fn serve(number: usize, parts: Parts, outbound: Listener, explicit: Listener) {
    let Parts {
        settings,
        shared,
        remembered,
        connections,
        ends,
        inside,
        draining,
        mut stop,
        ..
    } = parts;
    let connect = connect::Settings {
        inside,
        memory: Arc::clone(connections.memory()),
        metrics: Arc::clone(shared.telemetry.metrics()),
        ..settings.upstream
    };
    let upstream = Upstream::new(&connect);
    let memory = Arc::clone(connections.memory());
    let closing = upstream.clone().close_unused_when_short(memory);
    let inlet = Inlet {
        proxy: Proxy::new(Arc::clone(&shared), upstream),
        connect,
        patience: Patience::default(),
        draining: draining.clone(),
        policies: Arc::clone(&shared.policies),
        opaque_ports: settings.opaque_ports.into(),
        remembered,
        connections,
        ends,
    };
    let worker = shared.telemetry.metrics().worker(number);
    let probe = tokio::spawn(probe::watch(worker));
    let (mut first, mut second) = (draining.clone(), draining);
    let (redirected, asked) = (inlet.clone(), inlet);
    let names = Arc::<explicit::Names>::default();
    let accepting = async {
        tokio::join!(
            outbound.run(first.started(), move |socket, peer| connection::serve(
                socket,
                peer,
                redirected.clone()
            )),
            explicit.run(second.started(), move |socket, peer| explicit::serve(
                socket,
                peer,
                asked.clone(),
                Arc::clone(&names)
            )),
        )
    };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop >= Stop::Workers) => {}
        ((), ()) = accepting => {}
        () = closing => {}
    }
    probe.abort();
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn system(step: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { step, source }
}

/// Most destinations that state is kept for; those unused for longest make room.
const DESTINATIONS_MAX: usize = 1024;
