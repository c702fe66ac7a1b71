//! Events as lines on standard error: JSON, or text where a person watches.
//!
//! Nothing here may hold up a call. A line is handed to a writer thread through a bounded queue and dropped when that is full,
//! so a slow pipe costs lines and no latency; a kind of event that comes too often is thinned out. Header values and bodies
//! are never logged; paths only in the access log, which is off unless [`ACCESS`] is asked for.

mod limit;
mod writer;

use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;

use control_api::server::UnknownLogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use super::kept;
use super::metrics::{Metrics, labels::Closed};
use super::record::CallRecord;
use limit::Limit;
use writer::Writer;

/// The access log's target: one event for each call. Off unless the level names it, as in `info,weir::access=info`.
pub const ACCESS: &str = "weir::access";

/// What is logged when nothing is said.
pub const LEVEL_DEFAULT: &str = "info";

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Format {
    /// Text where standard error is a terminal, JSON otherwise.
    #[must_use]
    pub fn detected() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// The running log: changes its level, and flushes it at the end.
#[derive(Debug, Clone)]
pub struct Log {
    level: reload::Handle<Targets, Registry>,
    writer: Option<Writer>,
}

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error(transparent)]
    Level(#[from] UnknownLogLevel),
    /// The writer thread cannot be started.
    #[error("starting the log's thread: {0}; are there processes left to start?")]
    Thread(#[from] std::io::Error),
    /// Another log was started in this process.
    #[error("a log is already running")]
    AlreadyRunning,
}

impl Log {
    /// Starts the process's log. To be called once, before anything is logged.
    ///
    /// # Errors
    /// [`LogError`]; nothing is logged then.
    pub fn start(level: &str, format: Format, metrics: &Arc<Metrics>) -> Result<Self, LogError> {
        let targets = targets(level)?;
        let writer = Writer::start(std::io::stderr(), metrics.clone())?;
        let (subscriber, handle) = subscriber(targets, format, writer.clone(), metrics);
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|_| LogError::AlreadyRunning)?;
        Ok(Self {
            level: handle,
            writer: Some(writer),
        })
    }

    /// Changes what is logged: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or several with targets before
    /// them, as in `info,sidecar::stack=debug,weir::access=info`.
    ///
    /// # Errors
    /// [`UnknownLogLevel`] if `level` is none of these; nothing changes then.
    pub fn set_level(&self, level: &str) -> Result<(), UnknownLogLevel> {
        let targets = targets(level)?;
        self.level
            .reload(targets)
            .map_err(|error| UnknownLogLevel(error.to_string()))
    }

    /// Waits until what was logged is written, for a second at most. Blocks: for the end of the process only.
    pub fn flush(&self) {
        if let Some(writer) = &self.writer {
            writer.flush();
        }
    }
}

/// Whether a level can be obeyed, before a log is there to obey it.
///
/// # Errors
/// [`UnknownLogLevel`], with what is wrong about it.
pub fn check_level(level: &str) -> Result<(), UnknownLogLevel> {
    targets(level).map(drop)
}

/// Logs a finished call, if the access log is on.
pub(super) fn access(record: &CallRecord) {
    let trace_id = kept::hex(&record.trace_id);
    tracing::info!(
        target: ACCESS,
        trace_id,
        correlation_id = &*kept::readable(&record.correlation_id),
        protocol = record.protocol.word(),
        method = kept::method(&record.method),
        path = kept::path(record),
        destination = &*record.destination,
        endpoint = %record.endpoint,
        route = &*record.route,
        revision = record.revision,
        status = record.status,
        grpc_status = record.grpc_status,
        outcome = record.outcome.as_str(),
        error = record.error_kind,
        attempts = record.attempts_sent(),
        duration_ms = millis(record.duration),
        queue_ms = millis(record.queued()),
        "call"
    );
}

/// Whether the access log is on. One load of a static when it is not.
pub(super) fn access_is_on() -> bool {
    tracing::enabled!(target: ACCESS, tracing::Level::INFO)
}

fn millis(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn subscriber<W>(
    targets: Targets,
    format: Format,
    writer: W,
    metrics: &Arc<Metrics>,
) -> (
    Box<dyn tracing::Subscriber + Send + Sync>,
    reload::Handle<Targets, Registry>,
)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (level, handle) = reload::Layer::new(targets);
    let filter = level.and(Limit::new(metrics.clone()));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = match format {
        Format::Json => {
            let lines = lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            Box::new(Registry::default().with(lines.with_filter(filter)))
        }
        Format::Text => {
            // No colours: the library panics when asked for them without its feature, and the lines stand among the
            // command's own.
            let lines = lines.with_ansi(false);
            Box::new(Registry::default().with(lines.with_filter(filter)))
        }
    };
    (subscriber, handle)
}

/// What a log level may be.
pub const LEVELS: &str =
    "error, warn, info, debug, trace or off, or a list such as info,sidecar::stack=debug";

/// Parses a level, or levels for targets. The access log is off unless it is named.
fn targets(text: &str) -> Result<Targets, UnknownLogLevel> {
    let unknown = || UnknownLogLevel(format!("{text:?} is no log level: expected {LEVELS}"));
    let mut targets = Targets::new();
    let mut names_access = false;
    for directive in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (Some(target.trim()), level.trim()),
            None => (None, directive),
        };
        // An empty level would be taken for `error`.
        let level = Some(level).filter(|level| !level.is_empty());
        let level = level.and_then(|level| LevelFilter::from_str(level).ok());
        let level = level.ok_or_else(unknown)?;
        targets = match target {
            Some("") => return Err(unknown()),
            Some(target) => {
                names_access |= target == ACCESS;
                targets.with_target(target, level)
            }
            None => targets.with_default(level),
        };
    }
    if targets == Targets::new() {
        return Err(unknown());
    }
    Ok(if names_access {
        targets
    } else {
        targets.with_target(ACCESS, LevelFilter::OFF)
    })
}

#[cfg(test)]
mod tests;
