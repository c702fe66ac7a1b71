//! Serves HTTP/2 to the application.
//!
//! One task reads the connection; each stream has a task that awaits its answer, sends it, and ends with its stream:
//! a reset by the application drops the answer at once, and with it all that it holds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::drain::Draining;
use crate::http::interim;
use crate::proxy::{Arrival, Proxy};

mod stream;
#[cfg(test)]
mod tests;

/// Serves one connection until it ends, or until a drain has let it finish.
pub async fn serve<IO>(io: IO, arrival: Arrival, proxy: Proxy, mut draining: Draining)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = builder().handshake::<_, Bytes>(io);
    let Ok(Ok(mut connection)) = timeout(HANDSHAKE_TIMEOUT, handshake).await else {
        return;
    };
    let shared = Arc::new(stream::Shared { proxy, arrival });
    let mut drain = std::pin::pin!(draining.started());
    let mut is_draining = false;
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let answer = stream::answer(request, respond, Arc::clone(&shared));
                    tokio::spawn(interim::scope(answer));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "http2 connection ended");
                    return;
                }
                None => return,
            },
            () = &mut drain, if !is_draining => {
                is_draining = true;
                connection.graceful_shutdown();
            }
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(16 * 1024)
        .max_header_list_size(64 * 1024)
        .header_table_size(4096)
        .max_send_buffer_size(64 * 1024)
        .max_concurrent_reset_streams(1024)
        .reset_stream_duration(Duration::from_secs(2))
        .max_local_error_reset_streams(Some(10_000))
        .max_pending_accept_reset_streams(128)
        .data_frame_budget(4 * 1024 * 1024);
    builder
}

const STREAMS_MAX: u32 = 2048;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
