//! Serves HTTP/2 to the application.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::drain::Draining;
use crate::proxy::{Arrival, Proxy};

/// Serves one connection until it ends, or until a drain has let it finish.
pub async fn serve<IO>(io: IO, arrival: Arrival, proxy: Proxy, draining: Draining)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    drop((io, arrival, proxy, draining));
}
