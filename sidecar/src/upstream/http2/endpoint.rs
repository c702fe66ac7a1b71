//! The connections to one address: which one a call gets, when another is opened, and who waits.
//!
//! One connection is opened for the first calls, however many come at once. Another is added while calls wait for a
//! place, or while all are well used and there are few. What is opened at once never exceeds what is open, so a server
//! that takes one stream a connection is reached in a few rounds and a slow one is not stormed.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::uploads::Uploads;
use super::{connection, failure, lock};
use crate::error::UpstreamError;
use crate::http::header_limit::HeaderLimit;
use crate::http::loan::{Lender, Loan};
use crate::upstream::connect::Settings;
pub(super) use news::Retired;
use state::{CONNECTIONS_FEW, State};

mod news;
mod state;

/// The connections to one address.
pub(super) struct Endpoint {
    me: Weak<Self>,
    addr: SocketAddr,
    settings: Arc<Settings>,
    state: Mutex<State>,
    uploads: Uploads,
}

pub(super) type Granted = Result<Loan, UpstreamError>;

/// A stream that has been opened with its request's head.
pub(super) struct Opened {
    pub(super) response: ResponseFuture,
    pub(super) body: SendStream<Bytes>,
    pub(super) loan: Loan,
    pub(super) sent: Sent,
}

/// What tells whether a call's connection has been silent since the call was sent.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    at: Instant,
    heard: u64,
}

/// A request's head, until a connection has taken it.
pub(super) struct Head {
    request: Option<http::Request<()>>,
    is_end: bool,
}

impl Head {
    pub(super) fn new(request: http::Request<()>, is_end: bool) -> Self {
        Self {
            request: Some(request),
            is_end,
        }
    }
}

enum Turn {
    Opened(Opened),
    Waits(oneshot::Receiver<Granted>),
}

impl Endpoint {
    pub(super) fn new(addr: SocketAddr, settings: Arc<Settings>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            addr,
            settings,
            state: Mutex::default(),
            uploads: Uploads::default(),
        })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    pub(super) fn header_limit(&self) -> HeaderLimit {
        self.settings.header_limit()
    }

    /// Opens a stream on one of the connections, waiting for a place where there is none.
    ///
    /// # Errors
    /// When no connection can be had. Nothing was sent then.
    pub(super) async fn open_stream(&self, mut head: Head) -> Result<Opened, UpstreamError> {
        let mut turn = self.take_place(&mut head)?;
        loop {
            let granted = match turn {
                Turn::Opened(opened) => return Ok(opened),
                Turn::Waits(granted) => granted,
            };
            let loan = timeout(PLACE_WAIT_MAX, granted)
                .await
                .map_err(|_| self.not_sent())?
                .map_err(|_| self.not_sent())??;
            turn = self.use_place(loan, &mut head)?;
        }
    }

    fn take_place(&self, head: &mut Head) -> Result<Turn, UpstreamError> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Err(self.not_sent());
        }
        while state
            .waiting
            .front()
            .is_some_and(oneshot::Sender::is_closed)
        {
            state.waiting.pop_front();
        }
        while state.waiting.is_empty()
            && let Some(index) = state.roomiest()
        {
            if let Some((response, body, sent)) = self.start(&mut state, index, head)? {
                let loan = self
                    .lend(&mut state, index)
                    .ok_or_else(|| self.not_sent())?;
                self.open_another_if_wanted(&mut state);
                return Ok(Turn::Opened(Opened {
                    response,
                    body,
                    loan,
                    sent,
                }));
            }
        }
        if state.waiting.len() >= WAITING_MAX {
            state.waiting.retain(|waiting| !waiting.is_closed());
            if state.waiting.len() >= WAITING_MAX {
                return Err(self.not_sent());
            }
        }
        let (grant, granted) = oneshot::channel();
        state.waiting.push_back(grant);
        self.open_another_if_wanted(&mut state);
        Ok(Turn::Waits(granted))
    }

    /// Opens a stream in a place that was waited for, or begins anew when its connection has gone away meanwhile.
    fn use_place(&self, loan: Loan, head: &mut Head) -> Result<Turn, UpstreamError> {
        let mut state = lock(&self.state);
        if let Some(index) = state.index_of(loan.connection())
            && let Some((response, body, sent)) = self.start(&mut state, index, head)?
        {
            return Ok(Turn::Opened(Opened {
                response,
                body,
                loan,
                sent,
            }));
        }
        drop(state);
        drop(loan);
        self.take_place(head)
    }

    /// Hands the head to a connection; `None` when the connection no longer takes streams, and was forgotten.
    fn start(
        &self,
        state: &mut State,
        index: usize,
        head: &mut Head,
    ) -> Result<Option<(ResponseFuture, SendStream<Bytes>, Sent)>, UpstreamError> {
        let Some(open) = state.open.get_mut(index) else {
            return Ok(None);
        };
        // A sender of its own: one that opens the last stream the peer allows keeps a reference to it, which would keep
        // the stream alive when its call is given up.
        let mut sender = open.sender.clone();
        let ready = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        if !matches!(ready, Poll::Ready(Ok(()))) {
            state.open.swap_remove(index);
            return Ok(None);
        }
        open.uses += 1;
        let sent = Sent {
            at: Instant::now(),
            heard: open.heard.load(Ordering::Relaxed),
        };
        let request = head.request.take().ok_or_else(|| self.not_sent())?;
        sender
            .send_request(request, head.is_end)
            .map(|(response, body)| Some((response, body, sent)))
            .map_err(|error| failure::of_opening(self.addr, &error))
    }

    fn lend(&self, state: &mut State, index: usize) -> Option<Loan> {
        let lender = self.me.upgrade()?;
        let open = state.open.get_mut(index)?;
        open.in_use += 1;
        Some(Loan::new(lender, open.id))
    }

    /// Gives free places to those who wait. The loans that nobody took any more are to be dropped without the lock.
    fn grant(&self, state: &mut State) -> Vec<Loan> {
        let mut untaken = Vec::new();
        while let Some(index) = state.roomiest()
            && let Some(waiting) = state.waiting.pop_front()
        {
            if waiting.is_closed() {
                continue;
            }
            let Some(loan) = self.lend(state, index) else {
                break;
            };
            if let Err(Ok(loan)) = waiting.send(Ok(loan)) {
                untaken.push(loan);
            }
        }
        untaken
    }

    fn open_another_if_wanted(&self, state: &mut State) {
        let least_used = state.open.iter().map(|open| open.in_use).min();
        let wanted = !state.waiting.is_empty()
            || (state.open.len() < CONNECTIONS_FEW
                && least_used.is_some_and(|in_use| in_use >= WELL_USED));
        if !wanted || state.opening >= state.open.len().max(1) || state.is_closed {
            return;
        }
        while state.drivers.try_join_next().is_some() {}
        let too_soon =
            !state.open.is_empty() && state.opens_again_at.is_some_and(|at| Instant::now() < at);
        if too_soon || state.drivers.len() >= CONNECTIONS_MAX {
            return;
        }
        state.opening += 1;
        state.drivers.spawn(connection::run(
            Weak::clone(&self.me),
            self.addr,
            Arc::clone(&self.settings),
        ));
    }

    /// A call was given up before its response head came.
    ///
    /// When nothing at all was heard on its connection since, for a second at least, the peer may be dead or its packets
    /// dropped, which TCP takes half a minute to find out. New calls then get another connection, if need be a new one;
    /// the first byte heard ends the suspicion.
    pub(super) fn given_up(&self, loan: &Loan, sent: Sent) {
        if sent.at.elapsed() < SILENCE {
            return;
        }
        let mut state = lock(&self.state);
        if let Some(index) = state.index_of(loan.connection())
            && let Some(open) = state.open.get_mut(index)
            && open.heard.load(Ordering::Relaxed) == sent.heard
        {
            open.silent_at = Some(sent.heard);
        }
    }

    /// The peer cannot be talked to on the loan's connection: it gets no further call, and ends with those that it has.
    pub(super) fn avoid(&self, loan: &Loan) {
        lock(&self.state).forget(loan.connection());
    }

    /// Whether it has no connection, and nobody waits for one.
    pub(super) fn is_unused(&self) -> bool {
        let mut state = lock(&self.state);
        while state.drivers.try_join_next().is_some() {}
        state.drivers.is_empty() && state.waiting.is_empty()
    }

    /// Ends all connections, and refuses calls from now on.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.open.clear();
        state.waiting.clear();
        state.drivers.abort_all();
        drop(state);
        self.uploads.abort();
    }

    fn serve_waiting(&self, mut state: std::sync::MutexGuard<'_, State>) {
        if state.waiting.is_empty() {
            return;
        }
        let untaken = self.grant(&mut state);
        self.open_another_if_wanted(&mut state);
        drop(state);
        drop(untaken);
    }

    fn not_sent(&self) -> UpstreamError {
        UpstreamError::NotSent { addr: self.addr }
    }
}

impl Lender for Endpoint {
    fn give_back(&self, connection: u64) {
        let mut state = lock(&self.state);
        if let Some(index) = state.index_of(connection)
            && let Some(open) = state.open.get_mut(index)
        {
            open.in_use = open.in_use.saturating_sub(1);
        }
        self.serve_waiting(state);
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Streams on every connection from which on another one is opened, while there are few.
const WELL_USED: usize = 64;

/// Most connections to one address, those included that went away and still carry streams.
const CONNECTIONS_MAX: usize = 64;

/// Most calls that wait for a place.
const WAITING_MAX: usize = 4096;

/// Longest wait for a place. Calls have deadlines of their own; this bounds those that have none.
const PLACE_WAIT_MAX: Duration = Duration::from_mins(1);

/// How long a connection must have been silent for a call that is given up to say something about it.
const SILENCE: Duration = Duration::from_secs(1);
