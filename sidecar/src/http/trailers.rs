//! HTTP/1 trailers, written beside hyper.
//!
//! hyper sends trailers only to a client that asked for them by `TE`, and only those that were announced by `Trailer`.
//! What the other side has sent is not weir's to drop. So hyper never sees them: the body puts them into a [`Section`],
//! and ends; and the socket that hyper writes the body's last chunk to writes the section in its place.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, HOST, HeaderName, MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use tokio::io::AsyncWrite;

/// A chunked message's trailer section, between its body and its socket.
#[derive(Debug, Default)]
pub struct Section {
    waits: AtomicBool,
    bytes: Mutex<Bytes>,
}

impl Section {
    /// The message ends with these. To be called right before its body ends.
    pub fn put(&self, trailers: &HeaderMap) {
        *self.lock() = encoded(trailers);
        self.waits.store(true, Ordering::Relaxed);
    }

    /// Whether a section waits to be written: then the bytes that hyper writes are the message's last.
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Writes the last bytes of a message, and the section in place of the empty last chunk at their end.
    pub fn poll_write<IO: AsyncWrite + Unpin>(
        &self,
        io: &mut IO,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = Vec::with_capacity(buffers.iter().map(|buffer| buffer.len()).sum());
        for buffer in buffers {
            bytes.extend_from_slice(buffer);
        }
        match bytes.strip_suffix(LAST_CHUNK) {
            Some([]) => {
                let mut section = self.lock();
                while section.has_remaining() {
                    let written = ready!(Pin::new(&mut *io).poll_write(cx, &section))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    section.advance(written);
                }
                self.waits.store(false, Ordering::Relaxed);
                Poll::Ready(Ok(LAST_CHUNK.len()))
            }
            Some(before) => Pin::new(io).poll_write(cx, before),
            // The message was not chunked after all: it has no place for trailers.
            None => {
                self.waits.store(false, Ordering::Relaxed);
                Pin::new(io).poll_write(cx, &bytes)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        // Nothing under this lock panics.
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 9112 §7.1: `last-chunk trailer-section CRLF`.
fn encoded(trailers: &HeaderMap) -> Bytes {
    let mut bytes = b"0\r\n".to_vec();
    for (name, value) in trailers {
        if FORBIDDEN.contains(name) {
            continue;
        }
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

/// What hyper writes at the end of a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// RFC 9110 §6.5.1: fields that frame, route, authenticate or describe a message are none in its trailers.
const FORBIDDEN: [HeaderName; 13] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// What arrives when `bytes` are written until all are taken, through a pipe that takes `room` at a time.
    async fn written(section: &Section, bytes: &[u8], room: usize) -> String {
        let (mut near, mut far) = tokio::io::duplex(room);
        let writes = async {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (first, second) = rest.split_at(rest.len() / 2);
                let buffers = [IoSlice::new(first), IoSlice::new(second)];
                let count =
                    std::future::poll_fn(|cx| section.poll_write(&mut near, cx, &buffers)).await;
                rest = &rest[count.unwrap()..];
            }
            drop(near);
        };
        let mut text = String::new();
        let ((), read) = tokio::join!(writes, far.read_to_string(&mut text));
        read.unwrap();
        text
    }

    fn section(fields: &[(&'static str, &'static str)]) -> Section {
        let section = Section::default();
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        section.put(&fields.collect());
        section
    }

    #[tokio::test]
    async fn the_section_takes_the_place_of_the_last_chunk() {
        for room in [1, 3, 7, 100] {
            let section = section(&[("x-sum", "1"), ("x-more", "2")]);
            assert_eq!(
                written(&section, b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", room).await,
                "5\r\n0\r\n\r\n\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n"
            );
            assert!(!section.waits());
        }
    }

    #[tokio::test]
    async fn fields_that_are_no_trailers_stay_out() {
        let section = section(&[("content-length", "5"), ("x-sum", "1")]);
        assert_eq!(
            written(&section, LAST_CHUNK, 100).await,
            "0\r\nx-sum: 1\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn a_message_without_chunks_stays_as_it_is() {
        let section = section(&[("x-sum", "1")]);
        assert_eq!(written(&section, b"hello", 100).await, "hello");
        assert!(!section.waits());
    }
}
