//! weir in a real Kubernetes cluster, as its users see it. `.ci/run cluster` brings one up, installs the chart and runs these.
//!
//! Each test works in a namespace of its own and removes it. They run one at a time: some measure, some take the webhook away.

mod audit;
mod burst;
mod chart;
mod injection;
mod lifecycle;
mod opaque;
mod overload;
mod policy;
mod resources;
mod traces;
mod webhook;
