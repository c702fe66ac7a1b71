//! Serves the control API.

mod introspect;

pub use introspect::{Introspect, UnknownLogLevel};
