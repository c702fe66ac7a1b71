//! One connection, as the pool uses it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;

use super::idle::Idle;
use super::progress::{Permission, Progress};
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
#[expect(
    clippy::large_enum_variant,
    reason = "an unsent request is rare, and goes straight to the next connection"
)]
pub(super) enum Failure {
    /// The connection was closed; the request was not taken.
    Unsent(Request<RequestBody>),
    /// hyper took the request, and this happened.
    Broken(hyper::Error),
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

    /// Hands a request to hyper, and waits for the response head; interim ones are passed on as they come. Dropping the
    /// future closes the connection.
    ///
    /// # Errors
    /// [`Failure`]
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
        permission: Option<Permission>,
    ) -> Result<Response<Incoming>, Failure> {
        let exchange = match self.sender().as_mut() {
            Some(sender) => {
                self.progress.begin(permission);
                self.busy.store(true, Ordering::Relaxed);
                sender.try_send_request(request)
            }
            None => return Err(Failure::Unsent(request)),
        };
        let mut exchange = pin!(exchange);
        let answered = poll_fn(|cx| {
            let answered = exchange.as_mut().poll(cx);
            let waiter = answered.is_pending().then(|| cx.waker());
            for response in self.progress.take_interim(waiter) {
                interim::pass(response);
            }
            answered
        });
        answered
            .await
            .map_err(|mut error| match error.take_message() {
                Some(request) => Failure::Unsent(request),
                None => Failure::Broken(error.into_error()),
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
