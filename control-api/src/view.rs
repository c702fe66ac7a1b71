//! What the control API serves: the shapes of its JSON, shared by the server, the client and the proxy that fills them.
//!
//! Readers ignore fields that they do not know and take absent ones as empty, so that a `weirctl` understands proxies
//! that are older or newer than itself.

mod facts;
mod problem;
mod revision;
mod timestamp;

pub use facts::{
    Connection, ControlCounts, Decision, DecisionFilter, Destination, DestinationState, Latency,
    Listener, Status,
};
pub use problem::Problem;
pub use revision::{Applied, Origin, PolicyStatus, Rejection, Revision, UpdateCounts, Updates};
pub use timestamp::Timestamp;

use serde::{Deserialize, Serialize};

/// A list, as an object that can grow other members later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Items<T> {
    /// The members.
    pub items: Vec<T>,
}

/// How much the proxy logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevel {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as `info,sidecar::stack=debug`.
    pub level: String,
}
