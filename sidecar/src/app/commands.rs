//! `weir proxy` and `weir run`: settings in, sockets bound, the app started, its end awaited.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::{App, Sockets};
use crate::cli::complain;
use crate::run::{self, RunOptions};
use crate::settings::Settings;
use crate::telemetry::Telemetry;

/// Runs the pod's data plane until it is told to end.
#[must_use]
pub fn proxy() -> ExitCode {
    let (settings, telemetry) = match configure(|name| std::env::var(name).ok()) {
        Ok(configured) => configured,
        Err(errors) => return refuse(&errors),
    };
    let sockets = match bind(&settings) {
        Ok(sockets) => sockets,
        Err(error) => return fail(&error),
    };
    let patience = settings.drain_timeout;
    match App::start(settings, telemetry, sockets) {
        Ok(app) => until_told(app, patience),
        Err(error) => fail(&error),
    }
}

/// Runs a command with its calls passing weir. The exit code is the command's.
#[must_use]
pub fn run(options: &RunOptions) -> ExitCode {
    let (settings, telemetry) = match configure(|name| variable_of_run(options, name)) {
        Ok(configured) => configured,
        Err(errors) => return refuse(&errors),
    };
    if let Some(Err(error)) = options.policy.as_deref().map(check_policy) {
        return fail_with(&error, USAGE);
    }
    let admin = match options.admin.map(TcpListener::bind).transpose() {
        Ok(admin) => admin,
        Err(error) => return fail(&format!("admin server: {error}; is the port free?")),
    };
    // Threads only from here on: the namespace wants its signals set up before them.
    let mut session = match run::start(options, settings.workers) {
        Ok(session) => session,
        Err(error) => return fail_with(&error, error.exit_code()),
    };
    let Some(sockets) = session.take_sockets() else {
        return fail(&"the namespace brought no sockets");
    };
    let settings = Settings {
        control_socket: session.control_socket().to_owned(),
        ..settings
    };
    let sockets = Sockets {
        outbound: share_out(sockets.outbound, settings.workers),
        explicit: vec![sockets.explicit.into_iter().collect()],
        admin,
        inside: sockets.inside,
        services: sockets.services,
    };
    let app = match App::start(settings, telemetry, sockets) {
        Ok(app) => app,
        Err(error) => return fail_with(&error, FAILURE_OF_RUN),
    };
    let ended = session.go().and_then(|_pid| session.wait());
    // The application is gone: nobody waits for what is still open.
    app.stop(Duration::ZERO);
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail_with(&error, error.exit_code()),
    }
}

/// Waits for SIGTERM or SIGINT, then drains; a second one ends at once.
fn until_told(app: App, patience: Duration) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let told = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let (mut terminate, mut interrupt) = (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            );
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            tracing::info!("draining: outbound calls go on until the application is gone");
            tokio::select! {
                biased;
                _ = terminate.recv() => Ok(None),
                _ = interrupt.recv() => Ok(None),
                left = application_gone(&app, patience) => Ok(Some(left)),
            }
        })
    });
    match told {
        Ok(Some(left)) => {
            app.stop(left);
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::from(ENDED_AT_ONCE),
        Err(error) => fail(&error),
    }
}

/// Waits until the application has had no connection for a while, at most `patience`; returns what is left of that.
async fn application_gone(app: &App, patience: Duration) -> Duration {
    let until = Instant::now() + patience;
    let mut quiet_since = Instant::now();
    while Instant::now() < until && quiet_since.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if app.connections().open() > 0 {
            quiet_since = Instant::now();
        }
    }
    until.saturating_duration_since(Instant::now())
}

/// Reads all settings, reports everything that is wrong at once, and starts the log.
fn configure(get: impl Fn(&str) -> Option<String>) -> Result<(Settings, Telemetry), Vec<String>> {
    let settings = Settings::from_env(&get)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok((settings, Telemetry::default()))
}

/// `weir run` is quiet: its output is the command's. Its options come before the environment.
fn variable_of_run(options: &RunOptions, name: &str) -> Option<String> {
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    match name {
        "WEIR_POLICY_FILE" => options.policy.as_deref().map(path),
        "OTEL_EXPORTER_OTLP_ENDPOINT" if options.otlp.is_some() => options.otlp.clone(),
        // A trace that is asked for by hand is wanted whole.
        "OTEL_TRACES_SAMPLER" if options.otlp.is_some() && std::env::var(name).is_err() => {
            Some("parentbased_always_on".to_owned())
        }
        "WEIR_LOG_LEVEL" => std::env::var(name).ok().or_else(|| Some("warn".to_owned())),
        _ => std::env::var(name).ok(),
    }
}

/// A policy named on the command line must be good: later versions of the file are held to less, since calls flow.
fn check_policy(path: &std::path::Path) -> Result<(), String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match control_api::document::Document::parse(&text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Binds everything; each worker gets sockets of its own, between which the kernel shares the connections out.
fn bind(settings: &Settings) -> Result<Sockets, String> {
    let per_worker = |addrs: &[SocketAddr], name: &str| -> Result<Vec<Vec<TcpListener>>, String> {
        (0..settings.workers)
            .map(|_| listen_all(addrs, name))
            .collect()
    };
    let admin = listen(settings.admin_addr)
        .map_err(|error| explain("WEIR_ADMIN_ADDR", settings.admin_addr, &error))?;
    Ok(Sockets {
        outbound: per_worker(&settings.outbound_addrs, "WEIR_OUTBOUND_ADDRS")?,
        explicit: per_worker(&settings.explicit_proxy_addrs, "WEIR_EXPLICIT_PROXY_ADDRS")?,
        admin: Some(admin),
        ..Sockets::default()
    })
}

/// All of `addrs`; an IPv6 address is passed over where the node has no IPv6.
fn listen_all(addrs: &[SocketAddr], name: &str) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for addr in addrs {
        match listen(*addr) {
            Ok(listener) => listeners.push(listener),
            Err(error) if addr.is_ipv6() && is_without_ipv6(&error) => {
                tracing::info!(%addr, "no IPv6 on this node; not listening there");
            }
            Err(error) => return Err(explain(name, *addr, &error)),
        }
    }
    Ok(listeners)
}

fn is_without_ipv6(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT))
}

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The sockets of `weir run` come in one list: a worker's share is every `workers`-th.
fn share_out(sockets: Vec<TcpListener>, workers: usize) -> Vec<Vec<TcpListener>> {
    let mut shares: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for (number, socket) in sockets.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(number % workers) {
            share.push(socket);
        }
    }
    shares
}

fn explain(name: &str, addr: SocketAddr, error: &std::io::Error) -> String {
    format!("{name}: listening on {addr}: {error}; does another weir run here?")
}

fn refuse(errors: &[String]) -> ExitCode {
    for error in errors {
        complain(error);
    }
    ExitCode::from(USAGE)
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    fail_with(error, 1)
}

fn fail_with(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    complain(error);
    ExitCode::from(code)
}

/// Unusable configuration, found before anything listens.
const USAGE: u8 = 2;
/// `weir run` failed, not its command.
const FAILURE_OF_RUN: u8 = 125;
/// A second signal came: 128 and SIGTERM's number, as shells have it.
const ENDED_AT_ONCE: u8 = 143;
/// Without a connection for this long, the application is taken to be gone.
const QUIET: Duration = Duration::from_millis(500);
/// Connections that wait to be accepted; the kernel cuts it down to net.core.somaxconn.
const BACKLOG: i32 = 4096;
