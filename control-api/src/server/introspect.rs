//! What the control API asks the proxy for.

use crate::view::{Connection, Decision, DecisionFilter, Destination, Status};

/// The proxy, as the control API sees it.
///
/// Every method is called on the API's thread and answers at once: it copies what it needs and holds no lock for longer
/// than that.
pub trait Introspect: Send + Sync + 'static {
    /// The proxy as a whole.
    fn status(&self) -> Status;

    /// Every destination that is known, in the order of their names.
    fn destinations(&self) -> Vec<Destination>;

    /// The decisions that `filter` accepts, the oldest first; of those the latest, if it has a limit.
    fn decisions(&self, filter: &DecisionFilter) -> Vec<Decision>;

    /// Every open connection from the application, the oldest first.
    fn connections(&self) -> Vec<Connection>;

    /// Changes how much is logged.
    ///
    /// # Errors
    /// [`UnknownLogLevel`] if `level` is neither a level nor a filter; nothing changes then.
    fn set_log_level(&self, level: &str) -> Result<(), UnknownLogLevel>;
}

/// The text is neither a log level nor a filter; with what is wrong about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownLogLevel(pub String);
