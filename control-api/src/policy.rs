//! A policy, compiled: what the data plane reads once a call.
//!
//! A [`Policy`] comes only from a validated [`Document`](crate::document::Document), so none of its values can be out
//! of range. Matching a call allocates nothing.

mod admission;
mod matching;
mod retry;
mod routes;
mod rule;
#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use matching::Target;
pub use retry::{Budget, Conditions, Methods, Retry};
pub use rule::{AttemptTimeout, Breaker, Mode, Priority, Rule};

pub(crate) use matching::{Authority, Match};

use std::sync::Arc;

use crate::well_known::OPAQUE_PORTS;
use routes::Routes;

/// A compiled policy: the rules of its routes, ready to be matched.
#[derive(Debug, Clone)]
pub struct Policy {
    defaults: Arc<Rule>,
    routes: Routes,
    /// Sorted; those of [`OPAQUE_PORTS`] included.
    opaque_ports: Vec<u16>,
}

impl Policy {
    /// A policy of `routes` in document order, with `defaults` for the calls that none of them matches.
    pub(crate) fn new(defaults: Rule, routes: Vec<(Match, Rule)>, opaque_ports: &[u16]) -> Self {
        let mut ports: Vec<u16> = OPAQUE_PORTS.iter().chain(opaque_ports).copied().collect();
        ports.sort_unstable();
        ports.dedup();
        Self {
            defaults: Arc::new(defaults),
            routes: Routes::new(routes),
            opaque_ports: ports,
        }
    }

    /// The rule for a call: of the most specific route that matches, or the defaults.
    ///
    /// Exact authorities come before suffixes, longer suffixes before shorter ones, and those before routes for any
    /// authority; then a named port, the longer path prefix, named methods, and at last the order in the document.
    #[must_use]
    pub fn rule(&self, target: &Target<'_>) -> &Arc<Rule> {
        self.routes.find(target).unwrap_or(&self.defaults)
    }

    /// The rule for a call that no route matches.
    #[must_use]
    pub fn defaults(&self) -> &Arc<Rule> {
        &self.defaults
    }

    /// Whether connections to `port` are forwarded without looking at their bytes.
    #[must_use]
    pub fn is_opaque_port(&self, port: u16) -> bool {
        self.opaque_ports.binary_search(&port).is_ok()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(Rule::default(), Vec::new(), &[])
    }
}
