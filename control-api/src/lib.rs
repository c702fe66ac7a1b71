//! weir's policy: its document, its compiled form, and the local API that reads and changes it.
//!
//! The policy document *is* the API's contract, so whoever may push one (chart, injector, `weirctl`, tests) needs the
//! type, the validation and the client without linking a proxy. Without features this crate is the model alone:
//! no runtime, no IO.

#[cfg(feature = "client")]
pub mod client;
pub mod document;
pub mod places;
pub mod policy;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "server", feature = "client"))]
pub mod socket_dir;
#[cfg(feature = "server")]
pub mod store;
pub mod view;
pub mod well_known;
