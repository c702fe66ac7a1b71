//! Everything that weir obeys for a call of one route.

use std::sync::Arc;
use std::time::Duration;

use super::{Admission, Retry};

/// Everything that weir obeys for a call of one route.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The route's name; `defaults` where no route matched.
    pub name: Arc<str>,
    /// Set when the route brings its own admission, budget or breaker: these are then kept apart from those that the
    /// destination's other routes share. The route's name.
    pub scope: Option<Arc<str>>,
    /// Whether decisions are acted on.
    pub mode: Mode,
    /// Longest time for the whole call: queue, attempts and backoff. None: only what the caller propagates.
    pub deadline: Option<Duration>,
    /// Longest time for one attempt, from its dispatch to the response head.
    pub attempt_timeout: AttemptTimeout,
    /// Which attempts are repeated, and how.
    pub retry: Retry,
    /// How many calls the destination gets at a time, and how the others wait.
    pub admission: Admission,
    /// The priority of calls that bring none.
    pub priority: Priority,
    /// When an endpoint is left alone for a while. None: never.
    pub breaker: Option<Breaker>,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: Arc::from("defaults"),
            scope: None,
            mode: Mode::default(),
            deadline: None,
            attempt_timeout: AttemptTimeout::None,
            retry: Retry::default(),
            admission: Admission::default(),
            priority: Priority::Normal,
            breaker: None,
        }
    }
}

/// Whether decisions are acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Decide, count and act.
    #[default]
    Enforce,
    /// Decide and count, but let the call pass as if there were no policy. Each call has one attempt, so the first retry that
    /// it would have had is counted, against a budget of observed calls alone.
    Observe,
    /// Forward; ids and traces only.
    Off,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Enforce, Self::Observe, Self::Off];

    /// The mode's name in documents, metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

/// Longest time for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptTimeout {
    /// Only the call's deadline bounds an attempt.
    None,
    /// From the destination's own latency distribution.
    Adaptive,
    /// A fixed length.
    After(Duration),
}

/// How much a call matters when not all can be served; a lower one waits behind and is shed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// First out of the queue, last to be shed.
    Critical,
    /// The default.
    Normal,
    /// Last out of the queue, first to be shed.
    Sheddable,
}

impl Priority {
    /// Every priority, the highest first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Normal, Self::Sheddable];

    /// The priority's name in documents, headers, metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Normal => "normal",
            Self::Sheddable => "sheddable",
        }
    }

    /// The priority of a retry: one below that of its first try.
    #[must_use]
    pub fn lowered(self) -> Self {
        match self {
            Self::Critical => Self::Normal,
            Self::Normal | Self::Sheddable => Self::Sheddable,
        }
    }
}

/// When an endpoint is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that eject an endpoint.
    pub consecutive_failures: u32,
    /// First ejection; each further one in a row is twice as long.
    pub ejection_min: Duration,
    /// Longest ejection.
    pub ejection_max: Duration,
}
