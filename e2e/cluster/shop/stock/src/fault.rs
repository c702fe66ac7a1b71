//! What the service does wrong because a test told it to, read from a query string.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;

/// Without fields it is no fault.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Fault {
    /// Answered instead of the work.
    pub(crate) status: Option<StatusCode>,
    /// Of the requests that get this status.
    pub(crate) share: f64,
    /// Added to each request.
    pub(crate) delay: Duration,
    /// Requests that are worked on at once; the others queue inside the service.
    pub(crate) concurrency: Option<usize>,
}

/// The query as it comes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    status: Option<u16>,
    share: Option<f64>,
    delay: Option<String>,
    concurrency: Option<usize>,
}

impl TryFrom<Asked> for Fault {
    type Error = &'static str;

    fn try_from(asked: Asked) -> Result<Self, Self::Error> {
        let status = match asked.status {
            None => None,
            Some(number) if number >= 200 => {
                Some(StatusCode::from_u16(number).map_err(|_| "status: no status of HTTP")?)
            }
            Some(_) => return Err("status: not a number from 200"),
        };
        let share = asked.share.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&share) {
            return Err("share: not a number from 0 to 1");
        }
        let delay = match asked.delay {
            None => Duration::ZERO,
            Some(text) => duration(&text).ok_or("delay: not a length of time such as 200ms")?,
        };
        if asked.concurrency == Some(0) {
            return Err("concurrency: not a number from 1");
        }
        Ok(Self {
            status,
            share,
            delay,
            concurrency: asked.concurrency,
        })
    }
}

/// Reads `200ms` or `1.5s`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}
