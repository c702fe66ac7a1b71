//! The socket under hyper's client: counts what left, and lets a response be read although the server reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What the socket tells about the exchange under way.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Bytes that the system took, since the connection began.
    bytes: AtomicU64,
    /// The same when the exchange began.
    before: AtomicU64,
    /// Writing has failed: no further exchange.
    broken: AtomicBool,
}

impl Sent {
    /// Begins an exchange.
    pub(super) fn begin(&self) {
        self.before
            .store(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether not one byte of the exchange left.
    pub(super) fn is_nothing(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == self.before.load(Ordering::Relaxed)
    }

    /// Whether writing has failed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

/// A socket to a server.
///
/// A server may answer before it has read the whole request, and close: the next write then fails although the response
/// waits to be read. From a failed write on, writes go nowhere and reads go on; they end by themselves, since the socket
/// is closed. A write that fails before anything of the request left is an error at once.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    sent: Arc<Sent>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, sent: Arc<Sent>) -> Self {
        Self { stream, sent }
    }

    fn wrote(
        &self,
        written: Poll<io::Result<usize>>,
        asked: impl FnOnce() -> usize,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(count)) => {
                let count_wide = u64::try_from(*count).unwrap_or(u64::MAX);
                self.sent.bytes.fetch_add(count_wide, Ordering::Relaxed);
                written
            }
            Poll::Ready(Err(_closed)) if !self.sent.is_nothing() => {
                self.sent.broken.store(true, Ordering::Relaxed);
                Poll::Ready(Ok(asked()))
            }
            Poll::Ready(Err(_)) | Poll::Pending => written,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sent.is_broken() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(written, || buf.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let asked = || bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if this.sent.is_broken() {
            return Poll::Ready(Ok(asked()));
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(written, asked)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A connection that a response has switched away from HTTP.
#[derive(Debug)]
pub struct Upgraded {
    /// The socket.
    pub stream: TcpStream,
    /// What was read from it after the response head.
    pub read_ahead: Bytes,
}

/// The connection of a response that switches protocols (101, or 2xx to CONNECT), once HTTP has left it.
#[derive(Debug)]
pub struct PendingUpgrade(OnUpgrade);

impl PendingUpgrade {
    /// Takes it out of the response.
    pub fn of<B>(response: &mut Response<B>) -> Self {
        Self(hyper::upgrade::on(response))
    }

    /// Waits for the connection; `None` when the response did not come by this pool, or the connection has failed.
    pub async fn complete(self) -> Option<Upgraded> {
        let parts = self.0.await.ok()?.downcast::<TokioIo<Socket>>().ok()?;
        Some(Upgraded {
            stream: parts.io.into_inner().stream,
            read_ahead: parts.read_buf,
        })
    }
}
