//! `weir run` with a stand-in for the data plane: it relays bytes, or says where a connection was going.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, Command};
use sidecar::intercept::cidr::Cidr;
use sidecar::intercept::dns::Resolvers;
use sidecar::intercept::inside::Inside;
use sidecar::intercept::original_dst::{self, OriginalDstError};
use sidecar::run::{self, RunError, RunOptions, Sockets, keeper};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

/// A resolv.conf for the test, and the port on which its resolvers are asked.
pub(crate) const RESOLV_CONF: &str = "TEST_RESOLV_CONF";
pub(crate) const RESOLVER_PORT: &str = "TEST_RESOLVER_PORT";

/// Prefixes for documentation: a connection to them is answered with the address that it was going to.
const ANSWERED: [&str; 2] = ["198.51.100.0/24", "2001:db8::/32"];

fn options<T: Args>(name: &'static str) -> T {
    let command = T::augment_args(Command::new(name).no_binary_name(true));
    let matches = command.get_matches_from(std::env::args_os().skip(2));
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

pub(crate) fn keep() -> ExitCode {
    keeper::main(&options("namespace-keeper"))
}

pub(crate) fn run() -> ExitCode {
    match run_command(&options("run")) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            crate::runner::say(&format!("weir: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run_command(options: &RunOptions) -> Result<u8, RunError> {
    let mut session = run::start(options, 2)?;
    let sockets = session.take_sockets().expect("taken once");
    for (host, port) in sockets.services.published() {
        crate::runner::say(&format!("published {host} {port}"));
    }
    std::thread::spawn(move || serve(sockets));
    session.go()?;
    session.wait()
}

#[tokio::main(flavor = "current_thread")]
async fn serve(sockets: Sockets) {
    let resolvers = match std::env::var(RESOLV_CONF) {
        Ok(path) => {
            let port = std::env::var(RESOLVER_PORT).expect("set with it");
            Resolvers::of(path).on_port(port.parse().expect("a port"))
        }
        Err(_) => Resolvers::of_host(),
    };
    tokio::spawn(sockets.services.serve_with(resolvers));
    if let Some(explicit) = sockets.explicit {
        let listener = TcpListener::from_std(explicit).expect("a listener");
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                client.write_all(b"explicit proxy\n").await.ok();
            }
        });
    }
    for listener in sockets.outbound {
        let listener = TcpListener::from_std(listener).expect("a listener");
        let inside = sockets.inside.clone().expect("there is a namespace");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, inside.clone()));
            }
        });
    }
    std::future::pending::<()>().await;
}

async fn pass(mut client: TcpStream, inside: Inside) {
    let destination = match original_dst::of(&client) {
        Ok(destination) => destination,
        Err(OriginalDstError::OwnPort { destination }) => {
            let text = format!("own port {destination}\n");
            client.write_all(text.as_bytes()).await.ok();
            return;
        }
        Err(error) => panic!("{error}"),
    };
    if is_answered(destination.ip()) {
        let text = format!("going to {destination}\n");
        client.write_all(text.as_bytes()).await.ok();
        return;
    }
    let server = match TcpStream::connect(destination).await {
        Err(_) if Inside::may_serve(destination) => inside.connect(destination).await,
        other => other,
    };
    if let Ok(mut server) = server {
        tokio::io::copy_bidirectional(&mut client, &mut server)
            .await
            .ok();
    }
}

fn is_answered(ip: IpAddr) -> bool {
    ANSWERED
        .iter()
        .any(|block| block.parse::<Cidr>().expect("a block").contains(ip))
}
