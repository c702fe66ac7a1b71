//! `weir-injector serve`: the only wiring of the webhook.

use std::future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control_api::well_known::ADMIN_PORT;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::settings::Settings;
use crate::webhook::Webhook;
use crate::webhook::certificate::files::CertificateFiles;
use crate::webhook::certificate::{CertificateError, Served};
use crate::webhook::listener::{self, Security};
use crate::webhook::metrics::Metrics;
use crate::webhook::own::authority::Names;
use crate::webhook::own::cluster::{self, Cluster, ClusterError, Place};
use crate::webhook::own::{Keeper, Timing};

/// The options of `weir-injector serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeOptions {
    /// The injector's settings, as the chart writes them; without it, the defaults
    #[arg(long, env = "WEIR_INJECTOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the certificate is from
    #[command(flatten)]
    pub certificate: CertificateOptions,
    /// What a certificate of the injector's own is for
    #[command(flatten)]
    pub own: OwnOptions,
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

/// Where the certificate is from: exactly one of them.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct CertificateOptions {
    /// Directory with tls.crt and tls.key; read again when they change
    #[arg(long, env = "WEIR_INJECTOR_CERTS", value_name = "DIR")]
    pub certs: Option<PathBuf>,
    /// Make an own CA and certificate, keep both in this Secret, and make the webhook configuration trust them
    #[arg(
        long,
        env = "WEIR_INJECTOR_SELF_CERTS",
        value_name = "SECRET",
        requires = "webhook_configuration",
        requires = "service",
        requires = "namespace"
    )]
    pub self_certs: Option<String>,
}

/// What a certificate of the injector's own is for.
#[derive(Debug, Clone, clap::Args)]
pub struct OwnOptions {
    /// With --self-certs: the webhook configuration whose entries call this injector
    #[arg(
        long,
        env = "WEIR_INJECTOR_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        requires = "self_certs"
    )]
    pub webhook_configuration: Option<String>,
    /// With --self-certs: the Service by which they call it
    #[arg(
        long,
        env = "WEIR_INJECTOR_SERVICE",
        value_name = "NAME",
        requires = "self_certs"
    )]
    pub service: Option<String>,
    /// With --self-certs: the namespace of the Secret and the Service
    #[arg(
        long,
        env = "WEIR_INJECTOR_NAMESPACE",
        value_name = "NAME",
        requires = "self_certs"
    )]
    pub namespace: Option<String>,
}

/// Why the webhook did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// There is no way to the API server.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
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
    let served = Arc::new(Served::nothing(Arc::clone(&metrics)));
    let source = Source::open(options, &served, &metrics).await?;
    let (reviews, admin) = (bind(options.addr)?, bind(options.admin_addr)?);
    let webhook = Webhook::new(settings, metrics, Arc::clone(&served));
    let (retire, retiring) = watch::channel(false);
    let (stop, stopping) = watch::channel(false);
    let (stop_admin, stopping_admin) = watch::channel(false);
    let tls = Security::Tls(served);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(reviews = %reviews.local_addr()?, admin = %admin.local_addr()?, "serving");
    let ending = async {
        tokio::select! {
            biased;
            _ = terminate.recv() => {
                // Until every API server knows, requests still come here.
                webhook.retire();
                retire.send_replace(true);
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
        () = source.renew(retiring) => {}
    }
    tracing::info!("ended");
    Ok(())
}

/// Where the certificate is from.
enum Source {
    Files(CertificateFiles),
    Own(Box<Keeper>),
}

impl Source {
    /// Of files there is a certificate from the beginning; one of our own may take as long as the API server does.
    async fn open(
        options: &ServeOptions,
        served: &Arc<Served>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let (CertificateOptions { certs, self_certs }, own) = (&options.certificate, &options.own);
        if let Some(directory) = certs {
            let files = CertificateFiles::open(directory, Arc::clone(served))?;
            return Ok(Self::Files(files));
        }
        // The command line has all of them, or none.
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let place = Place {
            namespace: text(&own.namespace),
            secret: text(self_certs),
            configuration: text(&own.webhook_configuration),
        };
        let names = Names::of(&text(&own.service), &place.namespace);
        let cluster = Cluster::new(cluster::client().await?, place);
        let (served, metrics) = (Arc::clone(served), Arc::clone(metrics));
        let keeper = Keeper::new(cluster, names, served, metrics, Timing::default());
        Ok(Self::Own(Box::new(keeper)))
    }

    /// Keeps the certificate current, for ever.
    async fn renew(self, retiring: watch::Receiver<bool>) {
        match self {
            Self::Files(files) => files.watch(CERTIFICATE_PERIOD).await,
            Self::Own(keeper) => {
                keeper.keep(retiring).await;
                future::pending::<()>().await;
            }
        }
    }
}

/// Listens; `[::]` means both families, and IPv4 alone where the node has no IPv6.
fn bind(addr: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = |addr: SocketAddr| {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
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

/// Connections that may wait to be accepted. One more is told nothing, and tries again a second later: pods of a burst would wait.
const BACKLOG: u32 = 1024;

/// How often the certificate's files are looked at. A kubelet takes a minute to bring a changed Secret.
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(5);
