//! A client that has ended its sending, and waits for its response, or for more of it.
//!
//! It may go while it waits, without a sign on the connection: it has said its last word already, and nothing is written
//! to it that it could answer with a reset. So the kernel is asked again and again who holds its end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::intercept::client_end::{ClientEnd, Holder};

/// One such client, from its end of stream on.
#[derive(Debug)]
pub(super) struct HalfClosed {
    again: Pin<Box<Sleep>>,
    pause: Duration,
    /// When it was known to be there, or ended its sending.
    seen: Instant,
    /// The kernel has known of it.
    was_known: bool,
    /// Bytes of its response were written: where it has gone, the next write says so.
    is_answered: bool,
}

impl HalfClosed {
    /// A client that is there now.
    pub(super) fn now() -> Self {
        Self {
            again: Box::pin(tokio::time::sleep(PAUSE_MIN)),
            pause: PAUSE_MIN,
            seen: Instant::now(),
            was_known: false,
            is_answered: false,
        }
    }

    /// Bytes of its response are written. From now on only the kernel's word ends the wait: a response may be silent for
    /// longer than anybody waits for its beginning.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }

    /// Ready when the client has gone, or nothing was known of it for too long.
    pub(super) fn poll_gone(&mut self, client: &ClientEnd, cx: &mut Context<'_>) -> Poll<()> {
        while self.again.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match client.holder() {
                Holder::Application => (self.seen, self.was_known) = (now, true),
                Holder::Missing if self.was_known => return Poll::Ready(()),
                Holder::Nobody if now - self.seen >= GONE_MAX => return Poll::Ready(()),
                Holder::Nobody => self.pause = GONE_MAX / 2,
                Holder::Missing | Holder::Unknown => {
                    if !self.is_answered && now - self.seen >= UNKNOWN_MAX {
                        return Poll::Ready(());
                    }
                }
            }
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            self.again.as_mut().reset(now + self.pause);
        }
        Poll::Pending
    }
}

/// Before the kernel is asked for the second time. Closing a socket sends the end of stream first and gives the socket
/// up some microseconds later, so that the first answer may be too early.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Between two questions later on: how long a client that was killed may hold a place at a server that never answers.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a request lives whose sender closed right behind it. Some want no answer, and send what they send for its effect:
/// without weir the server would have got it.
const GONE_MAX: Duration = Duration::from_millis(500);
/// How long a client is taken for one that waits where the kernel cannot be asked.
pub(super) const UNKNOWN_MAX: Duration = Duration::from_mins(1);
