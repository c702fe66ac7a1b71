//! `weir-injector serve`: the only wiring of the webhook.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control_api::well_known::ADMIN_PORT;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::settings::Settings;
use crate::webhook::Webhook;
use crate::webhook::certificate::{Certificate, CertificateError};
use crate::webhook::listener::{self, Security};
use crate::webhook::metrics::Metrics;

/// The options of `weir-injector serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeOptions {
    /// The injector's settings, as the chart writes them; without it, the defaults
    #[arg(long, env = "WEIR_INJECTOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory with tls.crt and tls.key; read again when they change
    #[arg(
        long,
        env = "WEIR_INJECTOR_CERTS",
        value_name = "DIR",
        default_value = "/etc/weir/certs"
    )]
    pub certs: PathBuf,
    /// Where reviews are taken, by HTTPS
    #[arg(
        long,
        env = "WEIR_INJECTOR_ADDR",
        value_name = "ADDR",
        default_value = "[::]:8443"
    )]
    pub addr: SocketAddr,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, env = "WEIR_INJECTOR_ADMIN_ADDR", value_name = "ADDR", default_value_t = SocketAddr::from(([0; 8], ADMIN_PORT)))]
    pub admin_addr: SocketAddr,
    /// Seconds to take reviews after SIGTERM, until every API server knows
    #[arg(
        long,
        env = "WEIR_INJECTOR_LINGER",
        value_name = "SECONDS",
        default_value_t = 5
    )]
    pub linger: u64,
}

/// Why the webhook did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A port cannot be had.
    #[error("listening on {addr}: {source}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system refused something else.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Serves until SIGTERM or SIGINT, and ends well.
///
/// # Errors
/// [`StartError`]
pub fn run(options: &ServeOptions, settings: Settings) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(options, settings))
}

async fn serve(options: &ServeOptions, settings: Settings) -> Result<(), StartError> {
    let metrics = Arc::<Metrics>::default();
    let certificate = Certificate::open(&options.certs, Arc::clone(&metrics))?;
    let (reviews, admin) = (bind(options.addr)?, bind(options.admin_addr)?);
    let webhook = Webhook::new(settings, metrics);
    let (stop, stopping) = watch::channel(false);
    let (stop_admin, stopping_admin) = watch::channel(false);
    let tls = Security::Tls(certificate.served());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(reviews = %reviews.local_addr()?, admin = %admin.local_addr()?, "serving");
    let ending = async {
        tokio::select! {
            biased;
            _ = terminate.recv() => {
                // Until every API server knows, requests still come here.
                webhook.retire();
                tracing::info!(seconds = options.linger, "told to end; taking reviews a little longer");
                tokio::select! {
                    biased;
                    _ = terminate.recv() => {}
                    () = tokio::time::sleep(Duration::from_secs(options.linger)) => {}
                }
            }
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
    };
    let serving = async {
        listener::serve(reviews, tls, webhook.reviews(), stopping).await;
        // The probes are answered until the last.
        stop_admin.send_replace(true);
    };
    let all = async {
        tokio::join!(
            ending,
            serving,
            listener::serve(admin, Security::None, webhook.admin(), stopping_admin),
        )
    };
    tokio::select! {
        biased;
        ((), (), ()) = all => {}
        () = certificate.watch(CERTIFICATE_PERIOD) => {}
    }
    tracing::info!("ended");
    Ok(())
}

/// Listens; `[::]` means both families, and IPv4 alone where the node has no IPv6.
fn bind(addr: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = |addr: SocketAddr| {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let listening = match listen(addr) {
        Err(error) if addr.ip() == std::net::Ipv6Addr::UNSPECIFIED && !is_taken(&error) => {
            listen(SocketAddr::from(([0; 4], addr.port())))
        }
        listening => listening,
    };
    listening.map_err(|source| StartError::Listen { addr, source })
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

/// How often the certificate's files are looked at. A kubelet takes a minute to bring a changed Secret.
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(5);
