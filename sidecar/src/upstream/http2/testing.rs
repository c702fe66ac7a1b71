//! Peers for tests: servers made with the `h2` crate on loopback.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use tokio::net::TcpListener;

/// A server on loopback; each stream is given to its handler in a task of its own.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(http::Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(Builder::new(), handler).await
    }

    pub(crate) async fn start_with<H, F>(builder: Builder, handler: H) -> Self
    where
        H: Fn(http::Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (builder, handler) = (builder.clone(), handler.clone());
                tokio::spawn(async move {
                    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(handler(request, respond));
                    }
                });
            }
        });
        Self { addr, connections }
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Reads a body to its end, giving back its window as it comes; also its trailers.
pub(crate) async fn read(
    body: &mut RecvStream,
) -> Result<(Vec<u8>, Option<http::HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        bytes.extend_from_slice(&data);
        let _closed_streams_need_none = body.flow_control().release_capacity(data.len());
    }
    Ok((bytes, body.trailers().await?))
}

/// Answers with the request's body.
pub(crate) async fn echo(request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (_, mut body) = request.into_parts();
    let Ok((bytes, _)) = read(&mut body).await else {
        return;
    };
    let is_end = bytes.is_empty();
    let mut stream = respond
        .send_response(http::Response::new(()), is_end)
        .unwrap();
    if !is_end {
        stream.send_data(bytes.into(), true).unwrap();
    }
}
