//! weir on Kubernetes: what puts the sidecar into a pod.
//!
//! [`inject::inject`] is a pure function from a pod and the settings to a JSON patch, or to a reason why there is none.
//! [`manifest`] uses it offline on YAML, [`webhook`] on what the API server asks about, [`audit`] on pods that run. It never links the proxy: the two agree through `control_api::well_known`.

pub mod audit;
pub mod check;
pub mod cli;
pub mod inject;
pub mod manifest;
pub mod options;
pub mod pod;
pub mod reason;
pub mod review;
pub mod serve;
pub mod settings;
pub mod values;
pub mod webhook;
pub mod workload;
