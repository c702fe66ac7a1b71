//! Peers for tests: servers made with the `h2` crate on loopback.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::http::body::{Body, Http2Body};
use crate::upstream::connect::Settings;

pub(crate) mod raw;

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

/// A request body as it comes from an application: what is sent into it arrives on an HTTP/2 stream. Dropping the sender
/// ends the body; dropping the body closes the sender.
pub(crate) async fn source() -> (mpsc::Sender<Bytes>, Body) {
    let (ours, theirs) = tokio::io::duplex(1024 * 1024);
    let (sender, mut messages) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let (mut client, connection) = h2::client::handshake(theirs).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("http://source/").body(()).unwrap();
        let (_response, mut stream) = client.send_request(request, false).unwrap();
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
            };
            let Some(mut message) = message else {
                let _the_body_may_be_gone = stream.send_data(Bytes::new(), true);
                return std::future::pending().await;
            };
            while !message.is_empty() {
                stream.reserve_capacity(message.len());
                let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                    return;
                };
                let part = message.split_to(room.min(message.len()));
                stream.send_data(part, false).unwrap();
            }
        }
    });
    let mut connection = h2::server::handshake(ours).await.unwrap();
    let (request, _never_answered) = connection.accept().await.unwrap().unwrap();
    tokio::spawn(async move { while connection.accept().await.is_some() {} });
    let body = Body::Http2(Http2Body::new(
        request.into_body(),
        Settings::default().header_limit(),
    ));
    (sender, body)
}
