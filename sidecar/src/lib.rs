//! weir's data plane: intercepts, correlates, holds back and retries a pod's outbound calls.
//!
//! The modules stand in dependency order: each uses only those above it. A call passes them like this:
//!
//! ```text
//! accept -> original_dst -> detect -> decode | Call::begin | Record(Retry(Admit(Attempt(Upstream)))) | respond -> encode
//! intercept, connection      wire            | call        | stack                          upstream | respond    wire
//! ```

pub mod error;
pub mod http;
pub mod overload;
pub mod telemetry;

pub mod intercept;

pub mod destination;

pub mod call;

pub mod upstream;

pub mod stack;

pub mod respond;

pub mod drain;

pub mod proxy;

pub mod wire;

pub mod connection;

pub mod admin;

pub mod settings;

pub mod run;

pub mod redirect;

pub mod app;

pub mod demo;

pub mod cli;
