//! A running `e2e-origin`: the server that calls go to.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::process::Process;
use crate::{binaries, http1, wait};

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Origin {
    process: Process,
    addr: SocketAddr,
}

impl Origin {
    /// Starts a server with `knobs`, the arguments of `e2e-origin`.
    pub fn start(knobs: &[&str]) -> Self {
        let mut command = Command::new(binaries::peer("e2e-origin"));
        command.args(knobs);
        let process = Process::spawn("e2e-origin", &mut command);
        let addr = process
            .line_after("listening ", wait::LONG)
            .parse()
            .expect("e2e-origin prints an address");
        Self { process, addr }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A URL of this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Counts: `calls`, `failed`, `working`, `working_max`, `ids`.
    pub fn stats(&self) -> Value {
        http1::get(self.addr, "/_origin/stats")
            .expect("the origin answers")
            .json()
    }

    /// Calls that reached the server.
    pub fn calls(&self) -> u64 {
        self.stats()["calls"].as_u64().expect("a count")
    }

    /// Every call that reached it, in order of arrival.
    pub fn records(&self) -> Vec<Value> {
        let Value::Array(records) = http1::get(self.addr, "/_origin/calls")
            .expect("the origin answers")
            .json()
        else {
            panic!("the origin answers with a list");
        };
        records
    }

    /// Forgets what it counted.
    pub fn reset(&self) {
        http1::get(self.addr, "/_origin/reset").expect("the origin answers");
    }
}

/// Value of a header in one of [`Origin::records`] or in the answer of `/echo`; empty when absent.
pub fn header<'a>(record: &'a Value, name: &str) -> &'a str {
    record["headers"]
        .as_array()
        .and_then(|headers| headers.iter().find(|pair| pair[0] == name))
        .and_then(|pair| pair[1].as_str())
        .unwrap_or_default()
}
