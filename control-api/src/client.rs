//! Calls the control API: what `weirctl`, the demo and the tests use.
//!
//! Every call is a connection of its own and is bounded in time and size, so a client needs no care and has no state.

mod find;
mod transport;
mod watch;

pub use find::{NoSocket, find_socket};
pub use watch::Watch;

use std::path::PathBuf;

use http::{Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::view::{
    Applied, Connection, Decision, DecisionFilter, Destination, Items, LogLevel, Problem, Revision,
    Status,
};
use transport::{Request, Response};

/// A client of the control API at one Unix socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody could be asked.
    #[error("{}: {source}; is weir running there, and may this user use it?", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("the control API's answer broke off: {0}")]
    Broken(String),
    /// No answer in time.
    #[error("the control API did not answer in time")]
    TimedOut,
    /// What came is not what was asked for.
    #[error("the control API's answer is not understood: {0}")]
    NotUnderstood(String),
    /// The answer is no.
    #[error("{}", refusal(.0))]
    Refused(Box<Problem>),
}

impl ClientError {
    /// Whether another revision is in force than the write was to replace.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status == StatusCode::PRECONDITION_FAILED.as_u16())
    }
}

/// Which revision a write may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMatch {
    /// Whatever is in force.
    Any,
    /// This one only.
    Revision(u64),
}

/// Whether a write is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// Only said what it would change.
    Yes,
    /// Done.
    No,
}

/// What a call is answered with.
pub type Answer<T> = Result<T, ClientError>;

impl Client {
    /// A client of the control API at `socket`; nothing is connected yet.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The policy in force and its revision.
    ///
    /// # Errors
    /// [`ClientError`]; so for all calls.
    pub async fn policy(&self) -> Answer<(u64, Value)> {
        let response = self.send(Request::get("/v1/policy")).await?;
        let revision = response.revision()?;
        Ok((revision, response.json()?))
    }

    /// Replaces the policy.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn replace(
        &self,
        policy: &Value,
        if_match: IfMatch,
        dry_run: DryRun,
    ) -> Answer<Applied> {
        let request = Request::new(Method::PUT, with_dry_run("/v1/policy", dry_run))
            .header(header::IF_MATCH, if_match.value())
            .json("application/json", policy);
        self.send(request).await?.json()
    }

    /// Changes parts of the policy by a merge patch (RFC 7396).
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn patch(
        &self,
        patch: &Value,
        if_match: IfMatch,
        dry_run: DryRun,
    ) -> Answer<Applied> {
        let request = Request::new(Method::PATCH, with_dry_run("/v1/policy", dry_run))
            .header(header::IF_MATCH, if_match.value())
            .json("application/merge-patch+json", patch);
        self.send(request).await?.json()
    }

    /// The revisions that are remembered, the oldest first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn revisions(&self) -> Answer<Vec<Revision>> {
        self.items("/v1/revisions".to_owned()).await
    }

    /// The policy of a revision that is remembered.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn revision(&self, revision: u64) -> Answer<Value> {
        let path = format!("/v1/revisions/{revision}");
        self.send(Request::get(path)).await?.json()
    }

    /// Puts the policy of an earlier revision into force again, as a new revision.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn rollback(
        &self,
        revision: u64,
        if_match: IfMatch,
        dry_run: DryRun,
    ) -> Answer<Applied> {
        let path = format!("/v1/revisions/{revision}/rollback");
        let request = Request::new(Method::POST, with_dry_run(&path, dry_run))
            .header(header::IF_MATCH, if_match.value());
        self.send(request).await?.json()
    }

    /// Follows the revisions: those after `since`, or else the one in force, and then each new one.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn watch(&self, since: Option<u64>) -> Answer<Watch> {
        Watch::open(&self.socket, since).await
    }

    /// The proxy as a whole.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn status(&self) -> Answer<Status> {
        self.send(Request::get("/v1/status")).await?.json()
    }

    /// Every destination that is known.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn destinations(&self) -> Answer<Vec<Destination>> {
        self.items("/v1/destinations".to_owned()).await
    }

    /// The decisions that the filter accepts, the oldest first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn decisions(&self, filter: &DecisionFilter) -> Answer<Vec<Decision>> {
        self.items(format!("/v1/decisions{}", query(filter))).await
    }

    /// Every open connection from the application.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn connections(&self) -> Answer<Vec<Connection>> {
        self.items("/v1/connections".to_owned()).await
    }

    /// Changes how much is logged.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn set_log_level(&self, level: &str) -> Answer<LogLevel> {
        let level = LogLevel {
            level: level.to_owned(),
        };
        let request = Request::new(Method::PUT, "/v1/log-level").json("application/json", &level);
        self.send(request).await?.json()
    }

    async fn items<T: DeserializeOwned>(&self, path: String) -> Answer<Vec<T>> {
        let items: Items<T> = self.send(Request::get(path)).await?.json()?;
        Ok(items.items)
    }

    async fn send(&self, request: Request) -> Answer<Response> {
        let response = transport::send(&self.socket, request).await?;
        if response.status == StatusCode::OK {
            return Ok(response);
        }
        Err(response.refusal())
    }
}

impl IfMatch {
    fn value(self) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Revision(revision) => format!("\"{revision}\""),
        }
    }
}

fn with_dry_run(path: &str, dry_run: DryRun) -> String {
    match dry_run {
        DryRun::Yes => format!("{path}?dryRun=true"),
        DryRun::No => path.to_owned(),
    }
}

/// The filter as a query.
fn query(filter: &DecisionFilter) -> String {
    let members = [
        ("trace", filter.trace.clone()),
        ("destination", filter.destination.clone()),
        ("since", filter.since.map(|since| since.to_string())),
        ("limit", filter.limit.map(|limit| limit.to_string())),
    ];
    let given: Vec<String> = members
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded(&value?))))
        .collect();
    if given.is_empty() {
        return String::new();
    }
    format!("?{}", given.join("&"))
}

/// Everything but letters, digits and a few marks is encoded (RFC 3986 §2.3).
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encode).collect()
}

fn refusal(problem: &Problem) -> String {
    let mut lines = vec![format!("{}: {}", problem.title, problem.detail)];
    lines.extend(problem.errors.iter().map(|error| format!("  {error}")));
    lines.join("\n")
}

/// A body of JSON. What is sent here always can be written.
fn json_body<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
