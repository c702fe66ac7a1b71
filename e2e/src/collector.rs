//! A running `e2e-otlp`: the collector that spans go to.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::Process;
use crate::{binaries, http1, wait};

/// A running collector. Dropping it kills it.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Collector {
    /// Starts a collector that takes everything.
    pub fn start() -> Self {
        Self::in_mood("kind")
    }

    /// Starts a collector in a mood of `e2e-otlp --mood`.
    pub fn in_mood(mood: &str) -> Self {
        let mut command = Command::new(binaries::peer("e2e-otlp"));
        command.args(["--mood", mood]);
        let process = Process::spawn("e2e-otlp", &mut command);
        let addr = |prefix| {
            process
                .line_after(prefix, wait::LONG)
                .parse()
                .expect("e2e-otlp prints addresses")
        };
        let (grpc, http) = (addr("grpc "), addr("http "));
        Self {
            process,
            grpc,
            http,
        }
    }

    /// Endpoint for gRPC.
    pub fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Endpoint for HTTP/protobuf, without its path.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<Value> {
        let Value::Array(spans) = http1::get(self.http, "/_otlp/spans")
            .expect("the collector answers")
            .json()
        else {
            panic!("the collector answers with a list");
        };
        spans
    }

    /// Waits until the spans of one trace are such that `enough` holds, and answers with them.
    pub fn trace(&self, trace_id: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let within = Duration::from_secs(15);
        let end = tokio::time::Instant::now() + within;
        loop {
            let mut spans = self.spans();
            spans.retain(|span| span["trace_id"] == trace_id);
            if enough(&spans) {
                return spans;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "trace {trace_id} has only {spans:#?}"
            );
            std::thread::sleep(wait::STEP);
        }
    }
}
