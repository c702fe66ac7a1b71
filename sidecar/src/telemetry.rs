//! What can be seen of weir: metrics, spans, decisions, logs.

pub mod record;
