//! weir's data plane: intercepts, correlates, holds back and retries a pod's outbound calls.
//!
//! The modules stand in dependency order: each uses only those above it (blank lines keep rustfmt from sorting them). A
//! call passes them like this:
//!
//! ```text
//! accept -> original_dst -> detect -> decode | Call::begin | Record(Retry(Admit(Attempt(Upstream)))) | respond -> encode
//! intercept, connection      wire            | call        | stack                          upstream | respond    wire
//! ```

pub mod http;

pub mod error;

pub mod resolver;

pub mod overload;

pub mod memory;

pub mod telemetry;

pub mod intercept;

pub mod destination;

pub mod call;

pub mod upstream;

pub mod respond;

pub mod stack;

pub mod drain;

pub mod proxy;

pub mod wire;

pub mod connection;

pub mod admin;

pub mod settings;

pub mod run;

pub mod redirect;

pub mod demo;

pub mod cli;

pub mod app;
