//! One connection, as the pool uses it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use pin_project_lite::pin_project;
use tokio::task::AbortHandle;

use super::Expected;
use super::idle::Idle;
use super::progress::Progress;
use super::request_body::RequestBody;
use crate::http::interim;

/// One connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    addr: SocketAddr,
    /// Gone when the connection is to end as soon as it is unused.
    sender: Mutex<Option<SendRequest<RequestBody>>>,
    /// An exchange is under way.
    busy: AtomicBool,
    progress: Arc<Progress>,
    driver: OnceLock<AbortHandle>,
}

/// Why an exchange brought no response head.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection was closed; the request was not taken.
    Unsent(Box<Request<RequestBody>>),
    /// hyper took the request, and this happened.
    Broken(hyper::Error),
}

pin_project! {
    /// An exchange under way: resolves with the response head, and passes interim ones on as they come. Dropping it closes
    /// the connection.
    #[derive(Debug)]
    pub(super) struct Exchange<F> {
        connection: Arc<Connection>,
        #[pin]
        answer: F,
    }
}

impl Connection {
    pub(super) fn new(
        addr: SocketAddr,
        sender: SendRequest<RequestBody>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            addr,
            sender: Mutex::new(Some(sender)),
            busy: AtomicBool::new(false),
            progress,
            driver: OnceLock::new(),
        }
    }

    /// The server's address.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether no further exchange is possible.
    pub(super) fn is_closed(&self) -> bool {
        self.sender().as_ref().is_none_or(SendRequest::is_closed)
    }

    /// Ends the connection as soon as it is unused.
    pub(super) fn close(&self) {
        self.sender().take();
    }

    /// Says which task drives it; called once.
    pub(super) fn set_driver(&self, driver: AbortHandle) {
        let _first_one_stays = self.driver.set(driver);
    }

    /// The task that drives it: aborting it closes the connection, whatever is under way.
    pub(super) fn driver(&self) -> Option<&AbortHandle> {
        self.driver.get()
    }

    /// Whether not one byte of the latest request left.
    pub(super) fn has_sent_nothing(&self) -> bool {
        self.progress.has_sent_nothing()
    }

    /// Whether the server sent interim responses without end.
    pub(super) fn is_flooded(&self) -> bool {
        self.progress.is_flooded()
    }

    /// Hands a request to hyper.
    ///
    /// # Errors
    /// The request, if the connection has been closed.
    #[expect(
        clippy::result_large_err,
        reason = "the request goes straight to the next connection"
    )]
    pub(super) fn begin(
        self: Arc<Self>,
        request: Request<RequestBody>,
        expected: &Expected,
    ) -> Result<Exchange<impl Future<Output = Answer> + Send + use<>>, Request<RequestBody>> {
        let answer = match self.sender().as_mut() {
            Some(sender) => {
                self.progress
                    .begin(expected.permission.clone(), expected.trailers.clone());
                self.busy.store(true, Ordering::Relaxed);
                sender.try_send_request(request)
            }
            None => return Err(request),
        };
        Ok(Exchange {
            connection: self,
            answer,
        })
    }

    /// Joins the unused ones if its exchange is over. Called after hyper has done what it could.
    pub(super) fn settle(self: &Arc<Self>, idle: &Idle) {
        if !self.busy.load(Ordering::Relaxed) {
            return;
        }
        let is_ready = self.sender().as_ref().is_some_and(SendRequest::is_ready);
        if is_ready {
            self.busy.store(false, Ordering::Relaxed);
            if self.progress.is_broken() {
                self.close();
            } else {
                idle.put(Arc::clone(self));
            }
        }
    }

    fn sender(&self) -> MutexGuard<'_, Option<SendRequest<RequestBody>>> {
        // hyper does not panic in what is called under this lock.
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Exchange<F> {
    /// Where it takes place.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

type Answer = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl<F: Future<Output = Answer>> Future for Exchange<F> {
    type Output = Result<Response<Incoming>, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = this.answer.poll(cx);
        let waiter = answer.is_pending().then(|| cx.waker());
        for response in this.connection.progress.take_interim(waiter) {
            interim::pass(response);
        }
        answer.map_err(|mut error| match error.take_message() {
            Some(request) => Failure::Unsent(Box::new(request)),
            None => Failure::Broken(error.into_error()),
        })
    }
}
