//! The signals that ask the proxy to end.

use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT. From its making on, neither ends the process by itself.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts to listen. Must be called in a runtime that drives IO.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Ready when one of them came.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Both are polled, so that both wake the task.
        let terminate = self.terminate.poll_recv(cx);
        let interrupt = self.interrupt.poll_recv(cx);
        match (terminate, interrupt) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}
