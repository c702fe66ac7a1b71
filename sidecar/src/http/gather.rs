//! Writes several small buffers as one.
//!
//! A message is mostly a head and a short body, which hyper keeps apart. For a socket, one buffer is cheaper than two:
//! `send` takes a shorter way through the kernel than `writev`, and copying some hundred bytes costs next to nothing.

use std::cell::RefCell;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Writes `buffers`, gathered where they are small together.
pub fn poll_write<IO: AsyncWrite + Unpin>(
    io: &mut IO,
    cx: &mut Context<'_>,
    buffers: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let io = Pin::new(io);
    if let [only] = buffers {
        return io.poll_write(cx, only);
    }
    if buffers.iter().map(|buffer| buffer.len()).sum::<usize>() > GATHERED_BYTES_MAX {
        return io.poll_write_vectored(cx, buffers);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        for buffer in buffers {
            scratch.extend_from_slice(buffer);
        }
        io.poll_write(cx, scratch)
    })
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(GATHERED_BYTES_MAX));
}

/// Above this, copying would cost more than it saves.
const GATHERED_BYTES_MAX: usize = 8 * 1024;
