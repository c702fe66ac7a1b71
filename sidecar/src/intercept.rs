//! How connections reach us: redirect rules, the namespace of `weir run`, original destination, listeners, detection.

pub mod bypass;
pub mod cidr;
pub mod client_end;
pub mod connections;
pub mod descriptors;
pub mod detect;
pub mod dns;
pub mod handover;
pub mod inside;
pub mod listener;
pub mod namespace;
pub mod original_dst;
pub mod publish;
pub mod redirect;
pub mod rules;
mod tcp_table;
