//! One replica of the webhook, with the certificate that it makes itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use k8s::settings::Settings;
use k8s::webhook::Webhook;
use k8s::webhook::certificate::Served;
use k8s::webhook::listener::{self, Security};
use k8s::webhook::metrics::Metrics;
use k8s::webhook::own::authority::Names;
use k8s::webhook::own::cluster::{Cluster, Place};
use k8s::webhook::own::contents::certificates;
use k8s::webhook::own::{Keeper, Timing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::api_server::ApiServer;

/// As the injector's, but fast.
const TIMING: Timing = Timing {
    period: Duration::from_millis(200),
    settle: Duration::from_millis(100),
    pause: Duration::from_millis(20),
};

/// One replica of the webhook, on a thread of this process.
pub(crate) struct Replica {
    pub(crate) reviews: SocketAddr,
    admin: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

pub(crate) fn cluster(server: &ApiServer) -> Cluster {
    let mut config = kube::Config::new(server.url.parse().unwrap());
    config.default_retry = false;
    let place = Place {
        namespace: "weir-system".to_owned(),
        secret: "weir-injector-self-certs".to_owned(),
        configuration: "weir-injector".to_owned(),
    };
    Cluster::new(config.try_into().unwrap(), place)
}

impl Replica {
    pub(crate) fn start(server: &ApiServer) -> Self {
        let (reviews, admin) = (bound(), bound());
        let addrs = (reviews.local_addr().unwrap(), admin.local_addr().unwrap());
        let (stop, stopping) = watch::channel(false);
        let server = server.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .unwrap()
                .block_on(serve(server, reviews, admin, stopping));
        });
        Self {
            reviews: addrs.0,
            admin: addrs.1,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        get(self.admin, path).await
    }

    pub(crate) async fn is_ready(&self) -> bool {
        is_ready(self.admin).await
    }

    /// Shakes hands as an API server that trusts by `bundle`, and gives the leaf.
    pub(crate) async fn handshake(
        &self,
        bundle: &[u8],
    ) -> std::io::Result<CertificateDer<'static>> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(bundle) {
            roots.add(authority).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(self.reviews).await?;
        let name = "weir-injector.weir-system.svc".try_into().unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await?;
        let (_, connection) = stream.get_ref();
        Ok(connection.peer_certificates().unwrap()[0].clone())
    }
}

async fn get(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Whether the replica with this admin port is ready.
pub(crate) async fn is_ready(admin: SocketAddr) -> bool {
    get(admin, "/readyz").await.starts_with("HTTP/1.1 200")
}

/// Serves until told to stop, as `weir-injector serve` does.
async fn serve(
    api_server: ApiServer,
    reviews: std::net::TcpListener,
    admin: std::net::TcpListener,
    stop: watch::Receiver<bool>,
) {
    let metrics = Arc::<Metrics>::default();
    let served = Arc::new(Served::nothing(Arc::clone(&metrics)));
    let (shown, settings) = (Arc::clone(&served), Settings::parse("").unwrap());
    let webhook = Webhook::new(settings, Arc::clone(&metrics), shown);
    let names = Names::of("weir-injector", "weir-system");
    let keeper = Keeper::new(
        cluster(&api_server),
        names,
        Arc::clone(&served),
        metrics,
        TIMING,
    );
    let listening = |listener| TcpListener::from_std(listener).unwrap();
    let (reviews, admin) = (listening(reviews), listening(admin));
    tokio::join!(
        listener::serve(
            reviews,
            Security::Tls(served),
            webhook.reviews(),
            stop.clone()
        ),
        listener::serve(admin, Security::None, webhook.admin(), stop.clone()),
        keeper.keep(stop),
    );
}

pub(crate) fn bound() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}
