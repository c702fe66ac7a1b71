//! The HTTP/1.1 side, by hyper.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::Origin;
use crate::answer::{self, answer};
use crate::reply::{Answer, Body, Reply};

pub(crate) async fn serve(origin: Rc<Origin>, stream: TcpStream) {
    let service = service_fn(move |request| respond(Rc::clone(&origin), request));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_buf_size(1 << 20)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A broken connection is the other side's doing, or our own failure on purpose.
    drop(served.await);
}

async fn respond(
    origin: Rc<Origin>,
    request: Request<Incoming>,
) -> Result<Response<Either>, std::io::Error> {
    let (head, body) = request.into_parts();
    if let Some(reply) = answer::control(&origin, &head) {
        return Ok(response(reply));
    }
    if answer::is_mirror(&head) {
        return Ok(Response::new(Either::Mirror(body)));
    }
    let collected = body.collect().await.map_err(std::io::Error::other)?;
    let trailers = collected.trailers().cloned();
    match answer(&origin, &head, collected.to_bytes(), trailers).await {
        Answer::Reply(reply) => Ok(response(*reply)),
        Answer::Reset | Answer::Refused => Err(std::io::Error::other("broken on purpose")),
        Answer::Hang => match std::future::pending::<Infallible>().await {},
    }
}

fn response(reply: Reply) -> Response<Either> {
    let mut response = Response::new(Either::Reply(reply.body));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

/// A body of ours, or the request's own.
enum Either {
    Reply(Body),
    Mirror(Incoming),
}

impl http_body::Body for Either {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut *self {
            Self::Reply(body) => Pin::new(body).poll_frame(context),
            Self::Mirror(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(std::io::Error::other))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Reply(body) => body.is_end_stream(),
            Self::Mirror(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Reply(body) => body.size_hint(),
            Self::Mirror(body) => body.size_hint(),
        }
    }
}
