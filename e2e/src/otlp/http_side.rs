//! OTLP over HTTP/protobuf, and the test's questions.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{Collector, Mood};

pub(crate) async fn serve(listener: TcpListener, collector: Arc<Collector>) {
    while let Ok((stream, _)) = listener.accept().await {
        let collector = Arc::clone(&collector);
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(Arc::clone(&collector), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // A broken connection is the exporter's doing.
            drop(connection.await);
        });
    }
}

/// Answers every connection with bytes that belong to no protocol, as long as they are taken.
pub(crate) async fn garble(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while matches!(stream.read(&mut bytes).await, Ok(1..)) {
                for _ in 0..256 {
                    if stream.write_all(&[0xa5; 4096]).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

async fn respond(
    collector: Arc<Collector>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    Ok(match path.as_str() {
        "/_otlp/spans" => {
            let spans = collector.spans.lock().expect("no holder panics").clone();
            plain(StatusCode::OK, Value::Array(spans).to_string())
        }
        "/_otlp/reset" => {
            collector.spans.lock().expect("no holder panics").clear();
            plain(StatusCode::OK, "{}")
        }
        "/v1/traces" => export(&collector, body).await,
        _ => plain(StatusCode::NOT_FOUND, "no such path"),
    })
}

async fn export(collector: &Collector, body: Bytes) -> Response<Full<Bytes>> {
    if collector.mood == Mood::Garbage {
        return plain(StatusCode::OK, vec![0xa5; 1 << 20]);
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return plain(StatusCode::BAD_REQUEST, "no ExportTraceServiceRequest");
    };
    match collector.take(request).await {
        Ok(()) => plain(
            StatusCode::OK,
            ExportTraceServiceResponse::default().encode_to_vec(),
        ),
        Err(status) => plain(StatusCode::SERVICE_UNAVAILABLE, status.message().to_owned()),
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
