//! The tower layers that a call passes: record, retry, admit, attempt.
//!
//! From the outside in. Readiness is always there: a layer waits inside its call, where it can be seen and bounded.

use std::sync::Arc;

use crate::http::replay::ByteBudget;
use crate::telemetry::Telemetry;
use admit::Admit;
use attempt::Attempt;
use record::Record;
use retry::Retry;

pub mod admit;
pub mod attempt;
pub mod record;
pub mod response;
pub mod retry;

pub use response::ResponseBody;

#[cfg(test)]
mod tests;

/// The whole stack over an upstream.
pub type Stack<U> = Record<Retry<Admit<Attempt<U>>>>;

/// Puts the layers over `upstream`.
pub fn over<U>(upstream: U, telemetry: Telemetry, kept_bytes: Arc<ByteBudget>) -> Stack<U> {
    let attempts = Retry::new(Admit::new(Attempt::new(upstream)), kept_bytes);
    Record::new(attempts, telemetry)
}
