//! A small HTTP/2 client with prior knowledge, over a socket that the test opened.

use std::net::TcpStream;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};

/// One connection; its driver runs as a task of the current runtime.
#[derive(Debug, Clone)]
pub struct Client {
    sender: SendRequest<Bytes>,
}

/// A response, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status and headers.
    pub head: http::response::Parts,
    /// Body.
    pub body: Bytes,
    /// Trailers; empty when there were none.
    pub trailers: HeaderMap,
}

impl Reply {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// Value of a header, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        text(&self.head.headers, name)
    }

    /// Value of a trailer, or of a header in a trailers-only response; empty when absent.
    pub fn trailer(&self, name: &str) -> &str {
        if self.trailers.contains_key(name) {
            text(&self.trailers, name)
        } else {
            text(&self.head.headers, name)
        }
    }

    /// Body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

impl Client {
    /// Shakes hands over `stream`, with windows that never limit a test.
    pub async fn open(stream: TcpStream) -> Result<Self, h2::Error> {
        Self::open_with(stream, &h2::client::Builder::new()).await
    }

    /// As [`Self::open`], with settings of the caller's choice.
    pub async fn open_with(
        stream: TcpStream,
        builder: &h2::client::Builder,
    ) -> Result<Self, h2::Error> {
        stream.set_nonblocking(true).expect("a socket");
        let stream = tokio::net::TcpStream::from_std(stream).expect("a runtime is running");
        let (sender, connection) = builder.handshake(stream).await?;
        // The driver ends with the connection; a connection error shows at the calls.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender })
    }

    /// Sends a request with a body of known bytes, and reads the response to its end.
    pub async fn call(
        &self,
        request: Request<()>,
        body: impl Into<Bytes>,
    ) -> Result<Reply, h2::Error> {
        let body = body.into();
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(body, true)?;
        }
        read(response.await?).await
    }

    /// Sends a request without a body, and answers with the response to come.
    pub async fn start(
        &self,
        request: Request<()>,
    ) -> Result<h2::client::ResponseFuture, h2::Error> {
        let (response, _) = self
            .sender
            .clone()
            .ready()
            .await?
            .send_request(request, true)?;
        Ok(response)
    }

    /// Opens a stream whose body the caller sends.
    pub async fn open_stream(
        &self,
        request: Request<()>,
    ) -> Result<(h2::client::ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        self.sender
            .clone()
            .ready()
            .await?
            .send_request(request, false)
    }
}

/// Reads a response to its end, giving back flow control at once.
pub async fn read(response: Response<h2::RecvStream>) -> Result<Reply, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    Ok(Reply {
        head,
        body: body.into(),
        trailers,
    })
}

/// A `GET` of `http://authority/path`.
pub fn get(authority: impl std::fmt::Display, path: &str) -> Request<()> {
    request("GET", authority, path, &[])
}

/// A request with headers.
pub fn request(
    method: &str,
    authority: impl std::fmt::Display,
    path: &str,
    headers: &[(&str, &str)],
) -> Request<()> {
    let mut builder = Request::builder()
        .method(method)
        .uri(format!("http://{authority}{path}"));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).expect("the test's request is well formed")
}

/// A unary gRPC request.
pub fn grpc(
    authority: impl std::fmt::Display,
    path: &str,
    headers: &[(&str, &str)],
) -> Request<()> {
    let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
    all.extend_from_slice(headers);
    request("POST", authority, path, &all)
}

/// A gRPC message: no compression, length, bytes.
pub fn grpc_message(bytes: &[u8]) -> Bytes {
    let mut message = vec![0];
    message.extend_from_slice(
        &u32::try_from(bytes.len())
            .expect("a test's message is small")
            .to_be_bytes(),
    );
    message.extend_from_slice(bytes);
    message.into()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
