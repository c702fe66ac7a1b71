//! A collector for tests: takes OTLP traces by gRPC and by HTTP/protobuf, and keeps them for the test to read.
//!
//! Written from the published protobufs alone. It can be slow, silent or hostile, to order. Prints `grpc ADDR` and
//! `http ADDR`; ends when its standard input ends.

mod http_side;
mod spans;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// What the collector shall be.
#[derive(Debug, Clone, Parser)]
struct Knobs {
    /// Address for gRPC.
    #[arg(long, default_value = "127.0.0.1:0")]
    grpc: SocketAddr,
    /// Address for HTTP/protobuf, and for the test's questions.
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// How it treats exports.
    #[arg(long, value_enum, default_value_t = Mood::Kind)]
    mood: Mood,
}

/// How the collector treats exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mood {
    /// Takes them.
    Kind,
    /// Takes them after two seconds.
    Slow,
    /// Never answers.
    Silent,
    /// Answers every export with an error that invites a retry.
    Refusing,
    /// Answers with bytes that are no answer, and with very many of them.
    Garbage,
}

/// The exports so far.
#[derive(Debug)]
struct Collector {
    mood: Mood,
    spans: Mutex<Vec<Value>>,
}

impl Collector {
    async fn take(&self, request: ExportTraceServiceRequest) -> Result<(), Status> {
        match self.mood {
            Mood::Kind => {}
            Mood::Slow => tokio::time::sleep(Duration::from_secs(2)).await,
            Mood::Silent => std::future::pending().await,
            Mood::Refusing | Mood::Garbage => return Err(Status::unavailable("x".repeat(4_000))),
        }
        self.spans
            .lock()
            .expect("no holder panics")
            .extend(spans::flatten(request));
        Ok(())
    }
}

/// The gRPC side.
#[derive(Debug)]
struct Grpc(Arc<Collector>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.take(request.into_inner()).await?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let knobs = Knobs::parse();
    let collector = Arc::new(Collector {
        mood: knobs.mood,
        spans: Mutex::default(),
    });
    let grpc = TcpListener::bind(knobs.grpc).await?;
    let http = TcpListener::bind(knobs.http).await?;
    println!("grpc {}", grpc.local_addr()?);
    println!("http {}", http.local_addr()?);
    tokio::spawn(async {
        let ended = tokio::task::spawn_blocking(|| {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
        });
        drop(ended.await);
        std::process::exit(0);
    });
    tokio::spawn(http_side::serve(http, Arc::clone(&collector)));
    if knobs.mood == Mood::Garbage {
        http_side::garble(grpc).await;
        return Ok(());
    }
    tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Grpc(collector)))
        .serve_with_incoming(tonic::transport::server::TcpIncoming::from(grpc))
        .await?;
    Ok(())
}
