//! A running webhook, and what API servers, scrapers and kubelets ask it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Longest that anything here may take; the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running webhook, with its own certificate.
pub(crate) struct Webhook {
    pub(crate) child: Child,
    pub(crate) reviews: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) certs: tempfile::TempDir,
    pub(crate) trusted: CertificateDer<'static>,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Writes a new certificate for `localhost`.
pub(crate) fn certify(directory: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

impl Webhook {
    pub(crate) fn start() -> Self {
        let certs = tempfile::tempdir().unwrap();
        let trusted = certify(certs.path());
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir-injector"))
            .args([
                "serve",
                "--addr",
                "127.0.0.1:0",
                "--admin-addr",
                "127.0.0.1:0",
            ])
            .args(["--linger", "1", "--certs"])
            .arg(certs.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let addr = |name: &str| said["fields"][name].as_str().unwrap().parse().unwrap();
        let (reviews, admin) = (addr("reviews"), addr("admin"));
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self {
            child,
            reviews,
            admin,
            certs,
            trusted,
        }
    }

    pub(crate) fn connect(
        &self,
        trusted: &CertificateDer<'static>,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(self.reviews).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = "localhost".try_into().unwrap();
        StreamOwned::new(
            ClientConnection::new(Arc::new(config), name).unwrap(),
            socket,
        )
    }

    /// Posts a body, and gives status and body of the answer.
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> (u16, String) {
        exchange(&mut self.connect(&self.trusted), path, body)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        answer(&mut stream)
    }

    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(told.success());
    }
}

pub(crate) fn exchange(
    stream: &mut (impl std::io::Read + std::io::Write),
    path: &str,
    body: &[u8],
) -> (u16, String) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    // The handshake happens here.
    if let Err(error) = stream.write_all(head.as_bytes()) {
        return (0, error.to_string());
    }
    // A server that has refused already does not read on.
    stream.write_all(body).ok();
    stream.flush().ok();
    answer(stream)
}

pub(crate) fn answer(stream: &mut impl std::io::Read) -> (u16, String) {
    let mut text = Vec::new();
    // TLS streams may end without a goodbye.
    stream.read_to_end(&mut text).ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .parse()
        .unwrap_or_default();
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    (status, body.to_owned())
}

pub(crate) fn review() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reviews/replica.json");
    fs::read(path).unwrap()
}

pub(crate) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
