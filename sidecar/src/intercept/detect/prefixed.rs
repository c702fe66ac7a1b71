//! A socket whose first bytes were read already: it yields them again before its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::telemetry::metrics::Meter;

/// A socket, and the bytes that were read from it to tell its protocol.
#[derive(Debug)]
pub struct Prefixed {
    prefix: Bytes,
    socket: TcpStream,
    meter: Option<Meter>,
}

impl Prefixed {
    /// `socket` as if `prefix` had not been read from it.
    #[must_use]
    pub fn new(prefix: Bytes, socket: TcpStream) -> Self {
        Self {
            prefix,
            socket,
            meter: None,
        }
    }

    /// The same, with its bytes counted from now on, and those that have been read already.
    #[must_use]
    pub fn counted(mut self, meter: Meter) -> Self {
        meter.received(self.prefix.len());
        self.meter = Some(meter);
        self
    }

    /// The socket, for its options.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// What counts its bytes, if anything does.
    #[must_use]
    pub fn meter(&self) -> Option<&Meter> {
        self.meter.as_ref()
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(bytes)), Some(meter)) = (&written, &self.meter) {
            meter.sent(*bytes);
        }
        written
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
            let before = buffer.filled().len();
            let read = Pin::new(&mut this.socket).poll_read(cx, buffer);
            if let (Poll::Ready(Ok(())), Some(meter)) = (&read, &this.meter) {
                meter.received(buffer.filled().len() - before);
            }
            return read;
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
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.wrote(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, slices);
        this.wrote(written)
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
