//! `weir proxy` and `weir run`: settings in, sockets bound, the app started, its end awaited.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::task::Context;
use std::time::Duration;

use control_api::document;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{App, Sockets};
use crate::cli::complain;
use crate::drain::lifecycle::{self, Lifecycle};
use crate::drain::{self, Signals};
use crate::intercept::client_end::Ends;
use crate::run::{self, RunOptions};
use crate::settings::Settings;
use crate::telemetry;

/// Runs the pod's data plane until it is told to end.
#[must_use]
pub fn proxy() -> ExitCode {
    let (settings, telemetry) = match configure(variable, "weir") {
        Ok(configured) => configured,
        Err(errors) => return refuse(&errors),
    };
    let sockets = match bind(&settings) {
        Ok(sockets) => sockets,
        Err(error) => return fail(&error),
    };
    let drain_time = settings.drain_time;
    match App::start(settings, telemetry, sockets) {
        Ok(app) => until_told(app, drain_time),
        Err(error) => fail(&error),
    }
}

/// Runs a command with its calls passing weir. The exit code is the command's.
#[must_use]
pub fn run(options: &RunOptions) -> ExitCode {
    let (settings, telemetry) =
        match configure(|name| variable_of_run(options, name), &workload(options)) {
            Ok(configured) => configured,
            Err(errors) => return refuse(&errors),
        };
    if let Some(Err(error)) = options.policy.as_deref().map(check_policy) {
        return fail_with(&error, USAGE);
    }
    let admin = options
        .admin
        .map(|addr| TcpListener::bind(addr).map_err(|error| explain("--admin", addr, &error)));
    let admin = match admin.transpose() {
        Ok(admin) => admin,
        Err(error) => return fail_with(&error, FAILURE_OF_RUN),
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
        ends: sockets.ends,
        inside: sockets.inside,
        services: sockets.services,
    };
    let app = match App::start(settings, telemetry, sockets) {
        Ok(app) => app,
        Err(error) => return fail_with(&error, FAILURE_OF_RUN),
    };
    let ended = session.go().and_then(|_pid| session.wait());
    // The application is gone: nobody waits for what is still open.
    app.stop();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail_with(&error, error.exit_code()),
    }
}

/// Serves until it is told to end, and the application is gone or the drain time is over.
fn until_told(app: App, drain_time: Duration) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let told = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let mut signals = Signals::listen()?;
            let lifecycle = Lifecycle::new(lifecycle::Settings {
                drain_time,
                ..Default::default()
            });
            let sources = drain::Sources {
                terminations: |cx: &mut Context<'_>| signals.poll_next(cx),
                application_ended: std::future::pending(),
                connections_open: || app.connections().open(),
            };
            drain::run(lifecycle, app.drain(), sources).await;
            Ok(())
        })
    });
    app.stop();
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// What the spans call a command that was given no `OTEL_SERVICE_NAME`.
fn workload(options: &RunOptions) -> String {
    let program = options.command.first().map(std::path::Path::new);
    let name = program.and_then(std::path::Path::file_name);
    name.map_or_else(
        || "weir".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Reads all settings, and reports everything that is wrong with them at once.
fn configure(
    get: impl Fn(&str) -> Option<String>,
    workload: &str,
) -> Result<(Settings, telemetry::settings::Settings), Vec<String>> {
    let settings = Settings::from_env(&get);
    let telemetry = telemetry::settings::Settings::from_env(&get, workload);
    match (settings, telemetry) {
        (Ok(settings), Ok(telemetry)) => Ok((settings, telemetry)),
        (settings, telemetry) => {
            let ours = settings.err().unwrap_or_default();
            let theirs = telemetry.err().unwrap_or_default();
            let ours = ours.iter().map(ToString::to_string);
            Err(ours.chain(theirs.iter().map(ToString::to_string)).collect())
        }
    }
}

/// `weir run` is quiet: its output is the command's. Its options come before the environment.
fn variable_of_run(options: &RunOptions, name: &str) -> Option<String> {
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    match name {
        "WEIR_POLICY_FILE" => options.policy.as_deref().map(path),
        "OTEL_EXPORTER_OTLP_ENDPOINT" if options.otlp.is_some() => options.otlp.clone(),
        // A trace that is asked for by hand is wanted whole.
        "OTEL_TRACES_SAMPLER" if options.otlp.is_some() && variable(name).is_none() => {
            Some("parentbased_always_on".to_owned())
        }
        "WEIR_LOG_LEVEL" => variable(name).or_else(|| Some("warn".to_owned())),
        _ => variable(name),
    }
}

/// A variable of the environment. What is no text is shown as what it is not, so that it is refused and not overlooked.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// A policy named on the command line must be good: later versions of the file are held to less, since calls flow.
fn check_policy(path: &std::path::Path) -> Result<(), String> {
    let refused = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    // A pipe can be read only once, and the file is watched. Asked before it is opened, for that may wait.
    let metadata = std::fs::metadata(path).map_err(|error| refused(&error))?;
    if !metadata.is_file() {
        return Err(refused(
            &"not a file; the policy is read again when it changes",
        ));
    }
    let mut text = String::new();
    let most = u64::try_from(document::BYTES_MAX).unwrap_or(u64::MAX);
    std::fs::File::open(path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_string(&mut text))
        .map_err(|error| refused(&error))?;
    match document::Document::parse(&text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Binds everything; each worker gets sockets of its own, between which the kernel shares the connections out.
fn bind(settings: &Settings) -> Result<Sockets, String> {
    let sharing = match settings.workers {
        1 => Sharing::Nobody,
        _ => Sharing::Workers,
    };
    let per_worker = |addrs: &[SocketAddr], name: &str| -> Result<Vec<Vec<TcpListener>>, String> {
        (0..settings.workers)
            .map(|_| listen_all(addrs, name, sharing))
            .collect()
    };
    let admin = listen_for_all(settings.admin_addr)
        .map_err(|error| explain("WEIR_ADMIN_ADDR", settings.admin_addr, &error))?;
    let outbound = per_worker(&settings.outbound_addrs, "WEIR_OUTBOUND_ADDRS")?;
    let explicit = per_worker(&settings.explicit_proxy_addrs, "WEIR_EXPLICIT_PROXY_ADDRS")?;
    let listener = outbound.iter().chain(&explicit).flatten().next();
    let ends = listener.and_then(|listener| listener.local_addr().ok());
    Ok(Sockets {
        outbound,
        explicit,
        admin: Some(admin),
        ends: ends.map(Ends::here).unwrap_or_default(),
        ..Sockets::default()
    })
}

/// All of `addrs`; an IPv6 address is passed over where the node has no IPv6.
fn listen_all(
    addrs: &[SocketAddr],
    name: &str,
    sharing: Sharing,
) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for addr in addrs {
        match listen(*addr, sharing) {
            Ok(listener) => listeners.push(listener),
            Err(error) if addr.is_ipv6() && is_without_ipv6(&error) => {
                tracing::info!(%addr, "no IPv6 on this node; not listening there");
            }
            Err(error) => return Err(explain(name, *addr, &error)),
        }
    }
    Ok(listeners)
}

/// `[::]` means every address of the pod, of both families: a kubelet asks at the pod's first one, whichever that is.
/// Where the node has no IPv6, it means those of IPv4.
fn listen_for_all(addr: SocketAddr) -> std::io::Result<TcpListener> {
    if addr.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        return listen(addr, Sharing::Nobody);
    }
    match listen_on(addr, Sharing::Nobody, OnlyV6::No) {
        Err(error) if is_without_ipv6(&error) => {
            let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port()));
            listen(all, Sharing::Nobody)
        }
        listening => listening,
    }
}

fn is_without_ipv6(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT))
}

/// Who else may listen at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// A second weir fails, where it would otherwise get half of the first one's connections.
    Nobody,
    /// The other workers; unfortunately the kernel lets everything of the same user in with them.
    Workers,
}

fn listen(addr: SocketAddr, sharing: Sharing) -> std::io::Result<TcpListener> {
    listen_on(addr, sharing, OnlyV6::Yes)
}

/// Whether a socket for IPv6 takes IPv4 as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnlyV6 {
    Yes,
    No,
}

fn listen_on(addr: SocketAddr, sharing: Sharing, only_v6: OnlyV6) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Workers)?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6 == OnlyV6::Yes)?;
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
/// Connections that wait to be accepted; the kernel cuts it down to net.core.somaxconn.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn the_admin_server_of_all_addresses_is_reached_by_either_family() {
        let listener = listen_for_all("[::]:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, addr.port())).is_ok());
        if addr.is_ipv6() {
            assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, addr.port())).is_ok());
        }
    }
}
