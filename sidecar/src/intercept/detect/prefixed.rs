//! A socket whose first bytes were read already: it yields them again before its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket, and the bytes that were read from it to tell its protocol.
#[derive(Debug)]
pub struct Prefixed {
    prefix: Bytes,
    socket: TcpStream,
}

impl Prefixed {
    /// `socket` as if `prefix` had not been read from it.
    #[must_use]
    pub fn new(prefix: Bytes, socket: TcpStream) -> Self {
        Self { prefix, socket }
    }

    /// The socket, for its options.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The bytes that were not read again yet, and the socket.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, TcpStream) {
        (self.prefix, self.socket)
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buffer);
        }
        let length = this.prefix.len().min(buffer.remaining());
        buffer.put_slice(this.prefix.get(..length).unwrap_or_default());
        this.prefix.advance(length);
        if this.prefix.is_empty() {
            // Gives the allocation back now: the connection may live for days.
            this.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
