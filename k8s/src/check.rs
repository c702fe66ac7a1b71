//! `weir-injector check`: asks a running webhook about a pod, as an API server would. `helm test` runs it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control_api::well_known::kubernetes::PROXY_CONTAINER;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::pod::Pod;

/// The options of `weir-injector check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckOptions {
    /// The webhook's address; that of its Service is in `SERVICE_SERVICE_HOST` of every pod beside it
    #[arg(long, value_name = "ADDRESS")]
    pub ip: IpAddr,
    /// The webhook's port
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    pub port: u16,
    /// The name that its certificate must bear, SERVICE.NAMESPACE.svc
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The CA that its certificate must come from, PEM
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "ca_bundle",
        required_unless_present = "ca_bundle"
    )]
    pub ca: Option<PathBuf>,
    /// The same, as it stands in a webhook's configuration: base64 of PEM
    #[arg(long, value_name = "BASE64")]
    pub ca_bundle: Option<String>,
    /// Seconds in which it must be reached
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub patience: u64,
}

/// What is wrong with a webhook.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The CA cannot be read.
    #[error("{}: {source}; is it the CA of the webhook's certificate?", path.display())]
    Authority {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The CA bundle is not what a webhook's configuration has.
    #[error("the CA bundle is not base64 of PEM: {0}")]
    Bundle(String),
    /// No certificate can bear the name.
    #[error("{name}: {source}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// The CA is of a kind that cannot be used.
    #[error("the CA cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// It cannot be reached, or its certificate is not to be trusted.
    #[error(
        "{addr}: {source}; are the injector's pods ready, and does the CA fit their certificate?"
    )]
    Unreachable {
        /// Where it should be.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It was reached, and said something else than an injected pod.
    #[error("{path} answered {status} {answer:?}, where {expected} was expected")]
    Answer {
        /// What was asked.
        path: &'static str,
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        answer: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// The system refused something.
    #[error("{0}")]
    System(io::Error),
}

/// Asks the webhook on both of its paths, and says what it answered.
///
/// # Errors
/// [`CheckError`]
pub fn run(options: &CheckOptions) -> Result<String, CheckError> {
    let webhook = Webhook::of(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CheckError::System)?;
    let end = Instant::now() + Duration::from_secs(options.patience);
    runtime.block_on(async {
        let mut report = String::new();
        for path in PATHS {
            let (status, body) = webhook.ask_until(path, end).await?;
            judge(path, status, &body)?;
            report.push_str(path);
            report.push_str(" puts the sidecar into a pod\n");
        }
        Ok(report)
    })
}

/// Where the webhook is, and whom to trust.
struct Webhook {
    addr: SocketAddr,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Webhook {
    fn of(options: &CheckOptions) -> Result<Self, CheckError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities(options)? {
            roots.add(authority)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(options.name.clone());
        Ok(Self {
            addr: SocketAddr::from((options.ip, options.port)),
            name: name.map_err(|source| CheckError::Name {
                name: options.name.clone(),
                source,
            })?,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Asks until there is an answer: right after an installation the pods may not be ready.
    async fn ask_until(
        &self,
        path: &str,
        end: Instant,
    ) -> Result<(StatusCode, Vec<u8>), CheckError> {
        loop {
            let asked = timeout(ATTEMPT_MAX, self.ask(path)).await;
            let source = match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(answer) => return Ok(answer),
                Err(source) => source,
            };
            if timeout_at(end, sleep(PAUSE)).await.is_err() {
                let addr = self.addr;
                return Err(CheckError::Unreachable { addr, source });
            }
        }
    }

    async fn ask(&self, path: &str) -> io::Result<(StatusCode, Vec<u8>)> {
        let socket = TcpStream::connect(self.addr).await?;
        let stream = self.tls.connect(self.name.clone(), socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let request = Request::post(path)
            .header(header::HOST, self.name.to_str().as_ref())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(review().to_string()))
            .map_err(io::Error::other)?;
        let answer = async move {
            // The connection ends when the sender is dropped.
            let response = sender.send_request(request).await;
            let (head, body) = response.map_err(io::Error::other)?.into_parts();
            let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await;
            Ok((head.status, body.map_err(io::Error::other)?.to_vec()))
        };
        let (answer, _ended) = tokio::join!(answer, connection);
        answer
    }
}

fn authorities(options: &CheckOptions) -> Result<Vec<CertificateDer<'static>>, CheckError> {
    if let Some(path) = &options.ca {
        let wrong = |source| CheckError::Authority {
            path: path.clone(),
            source,
        };
        let read = CertificateDer::pem_file_iter(path).map_err(wrong)?;
        return read.collect::<Result<_, _>>().map_err(wrong);
    }
    let bundle = options.ca_bundle.as_deref().unwrap_or_default();
    let text = STANDARD
        .decode(bundle)
        .map_err(|error| CheckError::Bundle(error.to_string()))?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error: pem::Error| CheckError::Bundle(error.to_string()))
}

/// Whether an answer admits the pod with a patch that puts the proxy into it.
fn judge(path: &'static str, status: StatusCode, body: &[u8]) -> Result<(), CheckError> {
    let wrong = |expected| {
        let answer = String::from_utf8_lossy(body);
        Err(CheckError::Answer {
            path,
            status,
            answer: answer.chars().take(ANSWER_SHOWN_MAX).collect(),
            expected,
        })
    };
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return wrong("an AdmissionReview");
    };
    let field = |name: &str| answer.pointer(&format!("/response/{name}"));
    if status != StatusCode::OK || field("uid") != Some(&UID.into()) {
        return wrong("an answer to the review");
    }
    if field("allowed") != Some(&true.into()) {
        return wrong("the pod's admission");
    }
    let encoded = field("patch").and_then(Value::as_str).unwrap_or_default();
    let changes = STANDARD.decode(encoded).unwrap_or_default();
    let Ok(changes) = serde_json::from_slice::<json_patch::Patch>(&changes) else {
        return wrong("a JSON patch");
    };
    let mut pod = pod();
    let is_changed = json_patch::patch(&mut pod, &changes).is_ok();
    if is_changed && Pod::read(&pod).is_ok_and(|pod| pod.has_container(PROXY_CONTAINER)) {
        Ok(())
    } else {
        wrong("a patch that adds the proxy")
    }
}

/// A review of a pod that can be injected, whatever the settings.
fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": UID, "operation": "CREATE", "dryRun": true,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": pod(),
        },
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "weir-check", "namespace": "default"},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    })
}

const UID: &str = "weir-check";

/// What a webhook's configuration asks: for namespaces that allow redirect rules, and for those that forbid them.
const PATHS: [&str; 2] = ["/inject", "/inject/restricted"];

/// Longest that one try may take; API servers wait as long by the chart's default.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// Between tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Largest answer in bytes; a patch has some thousand.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Most of an answer that is shown, in letters.
const ANSWER_SHOWN_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::PodSecurity;
    use crate::review;
    use crate::settings::Settings;

    fn judged(body: &Value) -> Result<(), String> {
        let body = body.to_string();
        judge("/inject", StatusCode::OK, body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_webhook_answers_is_right_and_less_than_that_is_not() {
        let asked = review().to_string();
        let settings = Settings::parse("").unwrap();
        let answer = review::answer(asked.as_bytes(), PodSecurity::AllowsNetAdmin, &settings);
        let right = answer.unwrap().answer;
        assert_eq!(judged(&right), Ok(()));
        for (place, value, expected) in [
            ("/response/uid", json!("other"), "an answer to the review"),
            ("/response/allowed", json!(false), "the pod's admission"),
            ("/response/patch", json!(null), "a JSON patch"),
            (
                "/response/patch",
                json!("W10="),
                "a patch that adds the proxy",
            ),
        ] {
            let mut wrong = right.clone();
            *wrong.pointer_mut(place).unwrap() = value;
            let error = judged(&wrong).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(judge("/inject", StatusCode::NOT_FOUND, b"").is_err());
    }
}
