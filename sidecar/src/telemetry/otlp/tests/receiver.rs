//! A collector made from the published protobufs, that can be told to misbehave.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::codec::CompressionEncoding;

use crate::telemetry::settings::Protocol;

/// How the collector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accept,
    /// With an error message of this many bytes.
    PartialSuccess(usize),
    /// HTTP only.
    Status(u16),
    Never,
}

/// One request, and how it was answered.
#[derive(Debug)]
pub(super) struct Received {
    headers: HeaderMap,
    pub(super) request: ExportTraceServiceRequest,
    pub(super) answer: Answer,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn encoding(&self) -> Option<&str> {
        self.header("grpc-encoding")
            .or(self.header("content-encoding"))
    }

    pub(super) fn spans(&self) -> usize {
        let scopes = self
            .request
            .resource_spans
            .iter()
            .flat_map(|of| &of.scope_spans);
        scopes.map(|scope| scope.spans.len()).sum()
    }
}

/// A running collector.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) endpoint: String,
    pub(super) requests: mpsc::Receiver<Received>,
    shared: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Clone)]
struct Shared {
    answer: Arc<Mutex<Answer>>,
    requests: mpsc::Sender<Received>,
}

impl Shared {
    async fn receive(&self, headers: HeaderMap, request: ExportTraceServiceRequest) -> Answer {
        let answer = *self.answer.lock().unwrap();
        let received = Received {
            headers,
            request,
            answer,
        };
        // A test that looks at no requests leaves them here.
        drop(self.requests.try_send(received));
        if answer == Answer::Never {
            std::future::pending::<()>().await;
        }
        answer
    }
}

fn response(answer: Answer) -> ExportTraceServiceResponse {
    let partial_success = match answer {
        Answer::PartialSuccess(bytes) => Some(ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "x".repeat(bytes),
        }),
        Answer::Accept | Answer::Status(_) | Answer::Never => None,
    };
    ExportTraceServiceResponse { partial_success }
}

impl Receiver {
    pub(super) async fn start(protocol: Protocol, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel(64);
        let shared = Shared {
            answer: Arc::new(Mutex::new(answer)),
            requests: sender,
        };
        let (endpoint, task) = match protocol {
            Protocol::Grpc => {
                let service = TraceServiceServer::new(Grpc(shared.clone()))
                    .accept_compressed(CompressionEncoding::Gzip);
                let incoming = tonic::transport::server::TcpIncoming::from(listener);
                let serving = tonic::transport::Server::builder()
                    .add_service(service)
                    .serve_with_incoming(incoming);
                let task = tokio::spawn(async { serving.await.unwrap() });
                (format!("http://{address}"), task)
            }
            Protocol::HttpProtobuf => {
                let router = axum::Router::new()
                    .route("/v1/traces", axum::routing::post(over_http))
                    .with_state(shared.clone());
                let serving = axum::serve(listener, router);
                let task = tokio::spawn(async { serving.await.unwrap() });
                (format!("http://{address}/v1/traces"), task)
            }
        };
        Self {
            endpoint,
            requests,
            shared,
            task,
        }
    }

    /// Answers like this from now on.
    pub(super) fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }
}

struct Grpc(Shared);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let (metadata, _, message) = request.into_parts();
        let answer = self.0.receive(metadata.into_headers(), message).await;
        Ok(tonic::Response::new(response(answer)))
    }
}

async fn over_http(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let is_compressed = headers.contains_key("content-encoding");
    let request = if is_compressed {
        assert_eq!(body[..2], [0x1f, 0x8b], "gzip's magic number");
        ExportTraceServiceRequest::default()
    } else {
        ExportTraceServiceRequest::decode(body).unwrap()
    };
    match shared.receive(headers, request).await {
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        answer @ (Answer::Accept | Answer::PartialSuccess(_) | Answer::Never) => {
            response(answer).encode_to_vec().into_response()
        }
    }
}

/// A server that answers everything with bytes of no protocol, and closes.
pub(super) async fn garbage() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            drop(socket.read(&mut buffer).await);
            drop(socket.write_all(&[0xfe; 4096]).await);
        }
    });
    format!("http://{address}")
}
