//! Finds out when a connection has nothing to do, so that its buffers can be given back.
//!
//! An unused connection keeps 16 KiB in hyper, for reading and for writing, and an application may keep a thousand of
//! them. A connection that rests is taken apart, and put together again by the next byte.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::link::Link;

/// Watches one connection for a while without calls.
#[derive(Debug, Default)]
pub(super) struct Rest {
    timer: Option<Pin<Box<Sleep>>>,
    /// Calls that had begun when the timer was set.
    calls: u32,
}

impl Rest {
    /// Ready when there was no call for [`REST_AFTER`]. To be polled after hyper.
    ///
    /// The timer is set once in that time, and not for each call.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<()> {
        if !link.is_quiet() {
            return Poll::Pending;
        }
        let calls = link.calls();
        match &mut self.timer {
            Some(timer) if !timer.is_elapsed() => return Poll::Pending,
            Some(_) if self.calls == calls => {
                self.timer = None;
                return Poll::Ready(());
            }
            Some(timer) => timer.as_mut().reset(Instant::now() + REST_AFTER),
            None => self.timer = Some(Box::pin(tokio::time::sleep(REST_AFTER))),
        }
        self.calls = calls;
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Longer than the pauses of a connection in use, shorter than anybody keeps one without need. Coming back costs as much
/// as a tenth of a call.
const REST_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_after_a_while_without_calls() {
        let (mut rest, link) = (Rest::default(), Link::default());
        let begun = Instant::now();
        poll_fn(|cx| rest.poll(cx, &link)).await;
        assert_eq!(begun.elapsed().as_secs(), REST_AFTER.as_secs());
        // And again.
        poll_fn(|cx| rest.poll(cx, &link)).await;
        assert_eq!(begun.elapsed().as_secs(), 2 * REST_AFTER.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_puts_the_rest_off() {
        let (mut rest, link) = (Rest::default(), Link::default());
        let begun = Instant::now();
        let early = tokio::time::timeout(REST_AFTER / 2, poll_fn(|cx| rest.poll(cx, &link))).await;
        assert!(early.is_err());
        link.begin();
        let calling = tokio::time::timeout(REST_AFTER, poll_fn(|cx| rest.poll(cx, &link))).await;
        assert!(calling.is_err());
        link.end();
        poll_fn(|cx| rest.poll(cx, &link)).await;
        assert!(begun.elapsed() >= REST_AFTER / 2 * 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_bytes_to_write_or_a_message_half_read_does_not_rest() {
        let (mut rest, link) = (Rest::default(), Link::default());
        for (is_blocked, is_between) in [(true, true), (false, false)] {
            link.set_blocked(is_blocked);
            link.set_between_messages(is_between);
            let slept =
                tokio::time::timeout(REST_AFTER * 9, poll_fn(|cx| rest.poll(cx, &link))).await;
            assert!(slept.is_err());
        }
    }
}
