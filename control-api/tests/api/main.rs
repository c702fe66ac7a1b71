//! The control API from outside: a real server on a real Unix socket, a proxy that is none.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::format_collect,
    reason = "a test fails by panicking, and its helpers are tests too"
)]

mod access;
mod bounds;
mod description;
mod examples;
mod live;
mod policy;
mod support;
mod watch;
mod weirctl;
