//! What the running proxy says of itself, to the control API, to a scrape and to the live page.

use std::sync::Arc;
use std::time::Duration;

use control_api::server::{Counts, Introspect, UnknownLogLevel};
use control_api::view::{
    Connection, Decision, DecisionFilter, Destination, Listener, Status, Timestamp,
};
use tokio::time::Instant;

use super::Parts;
use crate::drain::Draining;
use crate::intercept::connections::Connections;
use crate::proxy::Shared;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Closed as _;

/// The running proxy, as far as it can be looked at.
#[derive(Debug)]
pub(super) struct Live {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    draining: Draining,
    workers: usize,
    listeners: Vec<Listener>,
    log: Log,
    control: Arc<Counts>,
    began: Instant,
}

impl Live {
    pub(super) fn new(parts: &Parts, control: Arc<Counts>) -> Self {
        Self {
            shared: Arc::clone(&parts.shared),
            connections: Arc::clone(&parts.connections),
            draining: parts.draining.clone(),
            workers: parts.settings.workers,
            listeners: parts.listeners.clone(),
            log: parts.log.clone(),
            control,
            began: Instant::now(),
        }
    }
}

impl Introspect for Live {
    fn status(&self) -> Status {
        let destinations = self.shared.destinations.all();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            workers: u32::try_from(self.workers).unwrap_or(u32::MAX),
            draining: self.draining.is_started(),
            policy: self.shared.policies.status(),
            calls: destinations
                .iter()
                .map(|destination| destination.counters.calls())
                .sum(),
            in_flight: destinations
                .iter()
                .map(|destination| u64::from(destination.admission.in_flight()))
                .sum(),
            connections: u64::try_from(self.connections.open()).unwrap_or(u64::MAX),
            destinations: u64::try_from(destinations.len()).unwrap_or(u64::MAX),
            listeners: self.listeners.clone(),
            control: self.control.view(),
        }
    }

    fn destinations(&self) -> Vec<Destination> {
        let now = Instant::now();
        let mut views: Vec<_> = self
            .shared
            .destinations
            .all()
            .iter()
            .map(|destination| destination.view(now))
            .collect();
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }

    fn decisions(&self, filter: &DecisionFilter) -> Vec<Decision> {
        self.shared.telemetry.decisions().answer(filter)
    }

    fn connections(&self) -> Vec<Connection> {
        let now = Instant::now();
        let mut open = self.connections.snapshot(CONNECTIONS_SHOWN_MAX);
        open.sort_by_key(|connection| connection.id());
        let in_force = self.shared.policies.current().revision;
        let shown = open.iter().map(|connection| Connection {
            id: connection.id(),
            peer: connection.peer().to_string(),
            destination: match connection.name() {
                Some(name) => format!("{} ({name})", connection.destination()),
                None => connection.destination().to_string(),
            },
            protocol: connection.speaks().word().to_owned(),
            since: ago(now.saturating_duration_since(connection.since())),
            calls: connection.calls(),
            revision: connection.revision(in_force),
        });
        shown.collect()
    }

    fn set_log_level(&self, level: &str) -> Result<(), UnknownLogLevel> {
        self.log.set_level(level)
    }
}

fn ago(age: Duration) -> Timestamp {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_unix_millis(Timestamp::now().unix_millis().saturating_sub(age))
}

/// More rows than anybody reads.
const CONNECTIONS_SHOWN_MAX: usize = 1000;
