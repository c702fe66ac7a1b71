//! The socket under hyper's client: keeps its [`Progress`], and lets a response be read although the server reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::progress::Progress;
use crate::http::gather;
use crate::memory::Memory;
use crate::telemetry::metrics::{ConnectionGuard, Speaks};

/// A socket to a server.
///
/// A server may answer before it has read the whole request, and close: the next write then fails although the response
/// waits to be read. From a failed write on, writes go nowhere and reads go on; they end by themselves, since the socket
/// is closed. A write that fails before anything of the request left is an error at once.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    progress: Arc<Progress>,
    memory: Arc<Memory>,
    counted: ConnectionGuard,
}

impl Socket {
    pub(super) fn new(
        stream: TcpStream,
        progress: Arc<Progress>,
        memory: Arc<Memory>,
        counted: ConnectionGuard,
    ) -> Self {
        Self {
            stream,
            progress,
            memory,
            counted,
        }
    }

    /// Reads what there is; little at a time while memory is short, so that hyper's buffers shrink.
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = Pin::new(&mut self.stream);
        if !self.memory.is_short() || buf.remaining() <= SHORT_READ {
            return stream.poll_read(cx, buf);
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(SHORT_READ));
        ready!(stream.poll_read(cx, &mut part))?;
        let count = part.filled().len();
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    fn wrote(
        &self,
        written: Poll<io::Result<usize>>,
        asked: impl FnOnce() -> usize,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(count)) => {
                self.progress.sent(*count);
                self.counted.sent(u64::try_from(*count).unwrap_or(u64::MAX));
                written
            }
            Poll::Ready(Err(_closed)) if !self.progress.has_sent_nothing() => {
                self.progress.set_broken();
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
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(this.read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        this.counted
            .received(u64::try_from(read.len()).unwrap_or(u64::MAX));
        this.progress.received(read);
        if this.progress.is_flooded() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "interim responses without end",
            )));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.progress.is_broken() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = match this.progress.waiting_trailers() {
            Some(section) => section.poll_write(&mut this.stream, cx, &[io::IoSlice::new(buf)]),
            None => Pin::new(&mut this.stream).poll_write(cx, buf),
        };
        this.wrote(written, || buf.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let asked = || bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if this.progress.is_broken() {
            return Poll::Ready(Ok(asked()));
        }
        let written = match this.progress.waiting_trailers() {
            Some(section) => section.poll_write(&mut this.stream, cx, bufs),
            None => gather::poll_write(&mut this.stream, cx, bufs),
        };
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
    /// Counts it as open.
    pub counted: ConnectionGuard,
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
        let Socket {
            stream,
            mut counted,
            ..
        } = parts.io.into_inner();
        counted.set(Speaks::Tunnel);
        Some(Upgraded {
            stream,
            read_ahead: parts.read_buf,
            counted,
        })
    }
}

/// What is read at a time while memory is short: the least that hyper makes room for.
const SHORT_READ: usize = 8 * 1024;
