//! The HTTP/2 side, by the h2 crate: prior knowledge only.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tokio::net::TcpStream;

use crate::Origin;
use crate::answer::{self, answer};
use crate::reply::{Answer, Reply};

pub(crate) async fn serve(origin: Rc<Origin>, stream: TcpStream) {
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(origin.knobs.streams_max)
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 22)
        .max_header_list_size(1 << 20)
        .handshake(stream);
    let Ok(mut connection) = handshake.await else {
        return;
    };
    // Ends with the connection, whoever ends it.
    while let Some(Ok((request, respond))) = connection.accept().await {
        let origin = Rc::clone(&origin);
        tokio::task::spawn_local(async move {
            // A reset stream is the other side's doing, or our own failure on purpose.
            drop(handle(&origin, request, respond).await);
        });
    }
}

async fn handle(
    origin: &Rc<Origin>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    if let Some(reply) = answer::control(origin, &head) {
        return send(&mut respond, reply).await;
    }
    if answer::is_mirror(&head) {
        return mirror(&mut respond, body, head.headers.get("content-type")).await;
    }
    let (bytes, trailers) = read(&mut body).await?;
    let answered = {
        let work = answer(origin, &head, bytes, trailers);
        tokio::pin!(work);
        // Either is fine first: a call that is reset in the same moment as it is answered is done with.
        tokio::select! {
            answered = &mut work => answered,
            _ = poll_fn(|context| respond.poll_reset(context)) => return Ok(()),
        }
    };
    match answered {
        Answer::Reply(reply) => send(&mut respond, *reply).await,
        Answer::Reset => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        Answer::Refused => {
            respond.send_reset(Reason::REFUSED_STREAM);
            Ok(())
        }
        Answer::Hang => {
            poll_fn(|context| respond.poll_reset(context)).await?;
            Ok(())
        }
    }
}

async fn read(body: &mut RecvStream) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.into(), body.trailers().await?))
}

async fn send(respond: &mut SendResponse<Bytes>, reply: Reply) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    let mut body = reply.body;
    let hint = http_body::Body::size_hint(&body);
    if let Some(length) = hint
        .exact()
        .filter(|_| !response.headers().contains_key("grpc-status"))
    {
        response
            .headers_mut()
            .insert("content-length", length.into());
    }
    let empty = http_body::Body::is_end_stream(&body);
    let mut stream = respond.send_response(response, empty)?;
    if empty {
        return Ok(());
    }
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            stream.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        };
        match frame.into_data() {
            Ok(data) => {
                let last = http_body::Body::is_end_stream(&body);
                send_data(&mut stream, data, last).await?;
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    stream.send_trailers(trailers)?;
                }
            }
        }
    }
    Ok(())
}

async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(granted) = poll_fn(|context| stream.poll_capacity(context)).await else {
            return Ok(());
        };
        let part = data.split_to(granted?.min(data.len()));
        stream.send_data(part, last && data.is_empty())?;
    }
    Ok(())
}

async fn mirror(
    respond: &mut SendResponse<Bytes>,
    mut body: RecvStream,
    content_type: Option<&http::HeaderValue>,
) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    let is_grpc =
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if let Some(content_type) = content_type {
        response
            .headers_mut()
            .insert("content-type", content_type.clone());
    }
    let mut stream = respond.send_response(response, false)?;
    while let Some(data) = body.data().await {
        let data = data?;
        let length = data.len();
        send_data(&mut stream, data, false).await?;
        body.flow_control().release_capacity(length)?;
    }
    match body.trailers().await? {
        Some(trailers) => stream.send_trailers(trailers),
        None if is_grpc => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            stream.send_trailers(trailers)
        }
        None => stream.send_data(Bytes::new(), true),
    }
}
