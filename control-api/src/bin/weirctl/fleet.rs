//! Reaches pods through the API server of their cluster: one pod, or every pod of a selector.
//!
//! A pod's control API is its own affair, on a socket inside. So nothing here speaks it: `weirctl` is run in the pod's
//! `weir-proxy` container (`pods/exec`), and says what it says there.

mod arguments;
mod cluster;
mod exec;
mod life;
mod names;
mod one_pod;
mod plan;
mod proxy;
mod push;
mod report;
mod rollout;
mod save;
mod target;
mod traffic;
mod verdict;
mod words;

pub(crate) use arguments::{ClusterArguments, PushArguments};
pub(crate) use one_pod::one_pod;
pub(crate) use push::push;
