//! Follows the revisions of the policy as they come.

use std::path::Path;
use std::time::Duration;

use http::HeaderName;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::ClientError;
use super::transport::{self, Request};
use crate::view::{Problem, Revision};

/// An open stream of revisions.
#[derive(Debug)]
pub struct Watch {
    body: Incoming,
    /// What has come of events that are not complete.
    buffer: Vec<u8>,
}

impl Watch {
    pub(super) async fn open(socket: &Path, since: Option<u64>) -> Result<Self, ClientError> {
        let mut request = Request::get("/v1/watch");
        if let Some(since) = since {
            let name = HeaderName::from_static("last-event-id");
            request = request.header(name, since.to_string());
        }
        let response = transport::open(socket, request).await?;
        let status = response.status();
        let body = response.into_body();
        if status.is_success() {
            let buffer = Vec::new();
            return Ok(Self { body, buffer });
        }
        let body = timeout(SILENCE_MAX, Limited::new(body, EVENT_BYTES_MAX).collect()).await;
        let problem = body
            .ok()
            .and_then(Result::ok)
            .and_then(|body| serde_json::from_slice::<Problem>(&body.to_bytes()).ok());
        Err(match problem {
            Some(problem) => ClientError::Refused(Box::new(problem)),
            None => ClientError::NotUnderstood(format!("status {status}")),
        })
    }

    /// The next revision; None when the server has ended the stream, which can be opened again after the last one.
    ///
    /// # Errors
    /// [`ClientError`] if the stream breaks, or is silent for so long that nobody can be there.
    pub async fn next(&mut self) -> Result<Option<Revision>, ClientError> {
        loop {
            while let Some(event) = self.take_event() {
                if let Some(revision) = revision(&event)? {
                    return Ok(Some(revision));
                }
            }
            let frame = timeout(SILENCE_MAX, self.body.frame())
                .await
                .map_err(|_| ClientError::TimedOut)?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| ClientError::Broken(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                let detail = "an event without an end".to_owned();
                return Err(ClientError::NotUnderstood(detail));
            }
        }
    }

    /// Takes one complete event, up to its empty line, from the buffer.
    fn take_event(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let rest = self.buffer.split_off(end + 2);
        Some(std::mem::replace(&mut self.buffer, rest))
    }
}

/// The revision that an event tells of; none in comments.
fn revision(event: &[u8]) -> Result<Option<Revision>, ClientError> {
    let not_understood = |error: String| ClientError::NotUnderstood(error);
    let text = std::str::from_utf8(event).map_err(|error| not_understood(error.to_string()))?;
    let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")) else {
        return Ok(None);
    };
    serde_json::from_str(data)
        .map(Some)
        .map_err(|error| not_understood(error.to_string()))
}

/// Longest silence; the server says something every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Most bytes that are kept for an event; all remembered revisions at once have a fifth of it.
const EVENT_BYTES_MAX: usize = 64 * 1024;
