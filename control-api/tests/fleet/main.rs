//! `weirctl push` and `weirctl --pod`: the real program against real control servers, with an API server between them that
//! knows pods, execs and `ConfigMap`s, and nothing else of a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and its helpers are tests too"
)]

mod api_server;
mod exec;
mod interrupt;
mod one_pod;
mod pod;
mod push;
mod save;
mod watch;
mod weirctl;
