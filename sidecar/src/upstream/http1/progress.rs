//! How far a connection's exchange has come, as its socket sees it.
//!
//! hyper tells neither whether anything of a failed request left, nor, without cost for every call, what interim (1xx)
//! responses came before the final one. The socket knows both: it counts what is written, and looks at the first bytes
//! that come back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use memchr::memmem;
use tokio::sync::oneshot;

use crate::http::hop_by_hop;
use crate::http::interim::{PASSED_MAX, SEEN_MAX};
use crate::http::trailers::Section;

/// Shared by a connection and its socket.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes that the system took, since the connection began.
    sent: AtomicU64,
    /// The same when the exchange began.
    sent_before: AtomicU64,
    /// Writing has failed: no further exchange.
    broken: AtomicBool,
    /// The request's body may end with trailers.
    may_have_trailers: AtomicBool,
    trailers: Mutex<Option<Arc<Section>>>,
    /// No final response head has begun to come in.
    awaits_head: AtomicBool,
    /// More interim heads came in than any server has reason to send.
    flooded: AtomicBool,
    interim: Mutex<Interim>,
}

#[derive(Debug, Default)]
struct Interim {
    /// The beginning of a head that may be an interim one.
    raw: Vec<u8>,
    heads: Vec<Response<()>>,
    /// How many came in during this exchange.
    seen: usize,
    /// Who sends the request, and passes the heads on.
    waiter: Option<Waker>,
    permission: Option<Permission>,
}

/// A server's word on a request body that waits for `100 Continue`. Dropping the last clone refuses the body.
#[derive(Debug, Clone)]
pub(super) struct Permission(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl Permission {
    pub(super) fn new(sender: oneshot::Sender<()>) -> Self {
        Self(Arc::new(Mutex::new(Some(sender))))
    }

    fn give(&self) {
        if let Some(sender) = self.take() {
            let _body_may_be_gone = sender.send(());
        }
    }

    fn refuse(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<oneshot::Sender<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Progress {
    /// Begins an exchange.
    pub(super) fn begin(&self, permission: Option<Permission>, trailers: Option<Arc<Section>>) {
        self.sent_before
            .store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
        self.awaits_head.store(true, Ordering::Relaxed);
        if permission.is_some() {
            self.interim().permission = permission;
        }
        self.may_have_trailers
            .store(trailers.is_some(), Ordering::Relaxed);
        if trailers.is_some() {
            *self.trailers() = trailers;
        }
    }

    /// The request's trailers, if they are what is to be written now.
    pub(super) fn waiting_trailers(&self) -> Option<Arc<Section>> {
        if !self.may_have_trailers.load(Ordering::Relaxed) {
            return None;
        }
        self.trailers().clone().filter(|section| section.waits())
    }

    fn trailers(&self) -> MutexGuard<'_, Option<Arc<Section>>> {
        // Nothing under this lock panics.
        self.trailers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The system took bytes.
    pub(super) fn sent(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether not one byte of the exchange left.
    pub(super) fn has_sent_nothing(&self) -> bool {
        self.sent.load(Ordering::Relaxed) == self.sent_before.load(Ordering::Relaxed)
    }

    /// Writing has failed.
    pub(super) fn set_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Whether writing has failed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether the server sent interim responses without end.
    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    /// Bytes came in.
    pub(super) fn received(&self, bytes: &[u8]) {
        if !self.awaits_head.load(Ordering::Relaxed) {
            return;
        }
        let mut interim = self.interim();
        if interim.raw.is_empty() && is_final(bytes) {
            // Nearly always: nothing is copied.
            self.end_interim(&mut interim, bytes);
            return;
        }
        interim.raw.extend_from_slice(bytes);
        while let Some(head) = interim.next_head() {
            interim.seen += 1;
            if head.status() != StatusCode::CONTINUE {
                // More are not passed on: no need to keep them until somebody looks.
                if interim.heads.len() < PASSED_MAX {
                    interim.heads.push(head);
                }
            } else if let Some(permission) = &interim.permission {
                permission.give();
            }
        }
        if interim.seen > SEEN_MAX {
            self.flooded.store(true, Ordering::Relaxed);
        }
        if is_final(&interim.raw) || interim.raw.len() > INTERIM_BYTES_MAX {
            let raw = std::mem::take(&mut interim.raw);
            self.end_interim(&mut interim, &raw);
        }
        if !interim.heads.is_empty()
            && let Some(waiter) = interim.waiter.take()
        {
            waiter.wake();
        }
    }

    /// Takes the interim heads that came in, and wakes `waiter` when there are more.
    pub(super) fn take_interim(&self, waiter: Option<&Waker>) -> Vec<Response<()>> {
        let mut interim = self.interim();
        interim.waiter = waiter.cloned();
        std::mem::take(&mut interim.heads)
    }

    /// The final head begins, with `bytes`.
    fn end_interim(&self, interim: &mut Interim, bytes: &[u8]) {
        self.awaits_head.store(false, Ordering::Relaxed);
        interim.seen = 0;
        let Some(permission) = interim.permission.take() else {
            return;
        };
        // RFC 9110 §10.1.1: a server may answer before it has the body. Unless that refuses the body, it reads on.
        if bytes.starts_with(SUCCESS) {
            permission.give();
        } else {
            permission.refuse();
        }
    }

    fn interim(&self) -> MutexGuard<'_, Interim> {
        // Nothing under this lock panics.
        self.interim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interim {
    /// Takes a whole interim head off the raw bytes. One that is malformed is left out; what it means for the connection
    /// is hyper's to say.
    fn next_head(&mut self) -> Option<Response<()>> {
        loop {
            if self.raw.len() < INTERIM.len() + 2 || is_final(&self.raw) {
                return None;
            }
            let end = memmem::find(&self.raw, b"\r\n\r\n")?;
            let rest = self.raw.split_off(end + 4);
            let head = std::mem::replace(&mut self.raw, rest);
            if let Some(head) = head.get(..end).and_then(parsed) {
                return Some(head);
            }
        }
    }
}

/// Whether the bytes cannot be the beginning of an interim head. 101 is a final one: it ends HTTP.
fn is_final(bytes: &[u8]) -> bool {
    let compared = bytes.len().min(INTERIM.len());
    bytes.get(..compared) != INTERIM.get(..compared) || bytes.starts_with(SWITCHING)
}

fn parsed(head: &[u8]) -> Option<Response<()>> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let status = lines.next()?.get(SWITCHING.len() - 3..SWITCHING.len())?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_bytes(status).ok()?;
    for line in lines {
        let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        response.headers_mut().append(
            HeaderName::from_bytes(name).ok()?,
            HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?,
        );
    }
    hop_by_hop::remove(response.headers_mut(), hop_by_hop::Upgrade::Remove);
    // RFC 9110 §8.6: an interim response has no length, and a reader who believed it would lose its place.
    response.headers_mut().remove(CONTENT_LENGTH);
    Some(response)
}

const INTERIM: &[u8] = b"HTTP/1.1 1";
const SWITCHING: &[u8] = b"HTTP/1.1 101";
/// The beginning of every head that says so.
const SUCCESS: &[u8] = b"HTTP/1.1 2";
/// Longest interim head looked at; a longer one is left to hyper, and not passed on.
const INTERIM_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pieces: &[&str]) -> Vec<(u16, String)> {
        let progress = Progress::default();
        progress.begin(None, None);
        for piece in pieces {
            progress.received(piece.as_bytes());
        }
        progress
            .take_interim(None)
            .into_iter()
            .map(|head| (head.status().as_u16(), format!("{:?}", head.headers())))
            .collect()
    }

    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n";

    #[test]
    fn interim_heads_are_taken_off_however_they_are_split() {
        let all = format!(
            "HTTP/1.1 100 Continue\r\n\r\n{HINTS}HTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
        );
        let expected = [
            (103, "{\"link\": \"</a>\"}".to_owned()),
            (102, "{}".to_owned()),
        ];
        assert_eq!(taken(&[&all]), expected);
        let bytes: Vec<&str> = all.split_inclusive(|_| true).collect();
        assert_eq!(taken(&bytes), expected);
    }

    #[test]
    fn nothing_behind_the_final_head_is_looked_at() {
        for final_head in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 101 S\r\n\r\n",
            "HTTP/1.0 1",
            "x",
        ] {
            assert_eq!(taken(&[final_head, HINTS]), [], "{final_head:?}");
        }
    }

    #[test]
    fn interim_heads_without_end_are_not_kept_and_not_endured() {
        let progress = Progress::default();
        progress.begin(None, None);
        for _ in 0..SEEN_MAX {
            progress.received(HINTS.as_bytes());
        }
        assert!(!progress.is_flooded());
        assert_eq!(progress.take_interim(None).len(), PASSED_MAX);
        progress.received(HINTS.as_bytes());
        assert!(progress.is_flooded());
    }

    #[test]
    fn each_exchange_has_its_own_count() {
        let progress = Progress::default();
        for _ in 0..SEEN_MAX {
            progress.begin(None, None);
            progress.received(HINTS.as_bytes());
            progress.received(b"HTTP/1.1 200 OK\r\n\r\n");
        }
        assert!(!progress.is_flooded());
    }

    #[test]
    fn an_interim_heads_length_is_not_passed_on() {
        let head = "HTTP/1.1 103 E\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(taken(&[head]), [(103, "{}".to_owned())]);
    }

    #[test]
    fn malformed_heads_are_left_out() {
        let bad = "HTTP/1.1 103 Early\r\nno colon\r\n\r\n";
        assert_eq!(taken(&[bad, HINTS]).len(), 1);
    }
}
