//! Black-box tests of weir: the harness. Its peers are the `e2e-*` binaries; the promises are in `tests/`, one file each.
//!
//! Nothing here links the proxy. Everything goes through binaries, sockets, signals and `/proc`, as it would for a user.

pub mod binaries;
pub mod cluster;
pub mod collector;
pub mod dns;
pub mod frames;
pub mod h2c;
pub mod http1;
pub mod inside;
pub mod load;
pub mod origin;
pub mod pod;
pub mod process;
pub mod procfs;
pub mod promql;
pub mod scripted;
pub mod wait;
pub mod weir;
