//! The tasks that move the connections' bytes, and the one that closes connections unused for too long.
//!
//! All of them end with the pool. A connection's driver also ends when its exchange is given up: hyper notices that
//! nobody waits for the response any more, and closes.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use hyper::client::conn::http1::{Builder, Connection as HyperConnection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::connect::Settings;
use super::connection::Connection;
use super::idle::Idle;
use super::io::Socket;
use super::progress::Progress;
use super::request_body::RequestBody;
use crate::memory::Memory;
use crate::telemetry::metrics::{Metrics, Side, Speaks};

/// Starts and owns the tasks of one pool.
#[derive(Debug)]
pub(super) struct Drivers {
    builder: Builder,
    memory: Arc<Memory>,
    metrics: Arc<Metrics>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Drivers {
    /// For connections by these settings.
    pub(super) fn new(settings: &Settings) -> Self {
        let header_bytes_max = settings.header_bytes_max;
        let mut builder = Builder::new();
        builder
            .preserve_header_case(true)
            .max_header_size(header_bytes_max)
            .max_buf_size(header_bytes_max.max(BUFFER_BYTES_MAX));
        Self {
            builder,
            memory: Arc::clone(&settings.memory),
            metrics: Arc::clone(&settings.metrics),
            tasks: Arc::default(),
        }
    }

    /// Speaks HTTP/1 on `stream`, until it ends or is unused for too long.
    ///
    /// # Errors
    /// When hyper refuses the connection, which it does not for HTTP/1.
    pub(super) async fn start(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
        idle: &Arc<Idle>,
    ) -> Result<Arc<Connection>, hyper::Error> {
        let progress = Arc::new(Progress::default());
        let counted = self.metrics.connection(Side::Upstream, Speaks::Http1);
        let socket = Socket::new(
            stream,
            Arc::clone(&progress),
            Arc::clone(&self.memory),
            counted,
        );
        let (sender, hyper) = self.builder.handshake(TokioIo::new(socket)).await?;
        let connection = Arc::new(Connection::new(addr, sender, progress));
        let mut tasks = lock(&self.tasks);
        let driven = Driven {
            connection: Arc::clone(&connection),
            idle: Arc::clone(idle),
        };
        if idle.enter() {
            tasks.spawn(expire(Arc::clone(idle), Arc::downgrade(&self.tasks)));
        }
        connection.set_driver(tasks.spawn(drive(hyper, driven)));
        Ok(connection)
    }
}

#[cfg(test)]
impl Drivers {
    /// How many tasks have not been freed.
    pub(super) fn count(&self) -> usize {
        lock(&self.tasks).len()
    }
}

/// A connection while its driver lives.
struct Driven {
    connection: Arc<Connection>,
    idle: Arc<Idle>,
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.idle.leave(&self.connection);
    }
}

async fn drive(hyper: HyperConnection<TokioIo<Socket>, RequestBody>, driven: Driven) {
    let mut hyper = hyper.with_upgrades();
    poll_fn(|cx| {
        // Whom an error concerns learns it from the exchange; an unused connection's concerns nobody.
        if Pin::new(&mut hyper).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        driven.connection.settle(&driven.idle);
        Poll::Pending
    })
    .await;
}

/// Closes connections that were unused for too long, and frees the tasks of those that ended, as long as there are any.
async fn expire(idle: Arc<Idle>, tasks: Weak<Mutex<JoinSet<()>>>) {
    let mut tick = tokio::time::interval(idle.timeout() / TICKS_A_TIMEOUT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // Weak, since it is one of them: they must not keep the set that owns them.
        if let Some(tasks) = tasks.upgrade() {
            while lock(&tasks).try_join_next().is_some() {}
        }
        if !idle.expire(Instant::now()) {
            return;
        }
    }
}

fn lock(tasks: &Mutex<JoinSet<()>>) -> MutexGuard<'_, JoinSet<()>> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How exactly the idle timeout is kept: a connection is closed at most a quarter of it late. One that is too old is
/// never used in any case.
const TICKS_A_TIMEOUT: u32 = 4;
/// Most bytes that hyper buffers in each direction of a connection, unless the header limit asks for more.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
