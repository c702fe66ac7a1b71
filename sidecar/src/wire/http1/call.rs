//! One call on a connection: from hyper's request to hyper's response.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::link::Link;
use super::target;
use crate::http::body::{Body, BodyError};
use crate::http::fields::Fields;
use crate::http::hop_by_hop;
use crate::http::interim::{self, Place};
use crate::stack::ResponseBody;
use crate::upstream::http1::PendingUpgrade;

/// What the calls of one connection have in common.
#[derive(Debug)]
pub(super) struct Session<A> {
    answer: A,
    /// Where the application dialled; none where each request says for itself where it goes.
    dialled: Option<SocketAddr>,
    pub(super) link: Arc<Link>,
    tunnel: Mutex<Option<Tunnel>>,
}

/// Both ends of a tunnel that a response has agreed to.
#[derive(Debug)]
pub(in crate::wire) struct Tunnel {
    pub(super) downstream: OnUpgrade,
    pub(super) upstream: PendingUpgrade,
}

impl<A> Session<A> {
    /// A connection's, before its first call.
    pub(super) fn new(answer: A, dialled: Option<SocketAddr>) -> Self {
        Self {
            answer,
            dialled,
            link: Arc::default(),
            tunnel: Mutex::new(None),
        }
    }

    /// A request was taken. What this returns ends the call when it is dropped.
    ///
    /// To be called before [`answer`] is polled: hyper reads on first, and what it reads may be a half-close.
    pub(super) fn begin(&self) -> Outgoing {
        self.link.begin();
        Outgoing {
            body: None,
            link: Arc::clone(&self.link),
            hides_emptiness: false,
            client: Version::HTTP_11,
        }
    }

    /// The response makes the connection a tunnel.
    fn agree(&self, downstream: OnUpgrade, response: &mut Response<ResponseBody>) {
        // RFC 9110 §9.3.6: a CONNECT's success has no body, and no word about its length.
        response.headers_mut().remove(CONTENT_LENGTH);
        let upstream = PendingUpgrade::of(response);
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tunnel {
            downstream,
            upstream,
        });
        self.link.become_tunnel();
    }

    /// Takes the tunnel that the last response agreed to.
    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Answers one request.
///
/// # Errors
/// Never: what goes wrong becomes a response.
pub(super) async fn answer<A, F>(
    session: Arc<Session<A>>,
    mut outgoing: Outgoing,
    request: Request<Incoming>,
) -> Result<Response<Outgoing>, Infallible>
where
    A: Fn(Request<Body>) -> F,
    F: Future<Output = Response<ResponseBody>>,
{
    let mut request = request.map(|incoming| {
        if incoming.is_end_stream() {
            Body::Empty
        } else {
            Body::Http1(incoming)
        }
    });
    let asked = take_upgrade(&mut request);
    if let Some(dialled) = session.dialled {
        target::settle(&mut request, dialled);
    }
    let is_connect = request.method() == Method::CONNECT;
    // RFC 9110 §15.2: HTTP/1.0 clients get no interim responses.
    outgoing.client = request.version();
    let takes_interim = outgoing.client == Version::HTTP_11;
    // Pinned where it is made: the proxy's whole answer is a large future, and every move of it costs.
    let mut answer = pin!((session.answer)(request));
    let mut place = Place::new();
    // An answer that its interim responses have to go ahead of.
    let mut held: Option<Box<Response<ResponseBody>>> = None;
    let mut response = poll_fn(|cx| {
        if let Some(response) = held.take() {
            return behind_interim(&session.link, Poll::Ready(*response), &mut held, cx);
        }
        place.during(|| {
            let polled = answer.as_mut().poll(cx);
            let heads = interim::take();
            if !takes_interim || heads.is_empty() && !session.link.has_interim() {
                return polled;
            }
            for head in heads {
                session.link.add_interim(&encoded(&head));
            }
            behind_interim(&session.link, polled, &mut held, cx)
        })
    })
    .await;
    *response.version_mut() = Version::HTTP_11;
    let grants_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS
        || is_connect && response.status().is_success();
    if let Some(downstream) = asked
        && grants_tunnel
    {
        session.agree(downstream, &mut response);
    }
    // hyper would drop the length that a 304 gives for what it stands for, were the body plainly empty.
    outgoing.hides_emptiness = response.status() == StatusCode::NOT_MODIFIED
        && response.headers().contains_key(CONTENT_LENGTH);
    Ok(response.map(|body| {
        outgoing.body = Some(body);
        outgoing
    }))
}

/// Holds an answer back while interim responses wait to be written: hyper would write its head first.
fn behind_interim(
    link: &Link,
    polled: Poll<Response<ResponseBody>>,
    held: &mut Option<Box<Response<ResponseBody>>>,
    cx: &Context<'_>,
) -> Poll<Response<ResponseBody>> {
    if !link.has_interim() {
        return polled;
    }
    if let Poll::Ready(response) = polled {
        *held = Some(Box::new(response));
    }
    link.wait(cx.waker());
    Poll::Pending
}

/// An interim response's head as bytes.
fn encoded(head: &Response<()>) -> Vec<u8> {
    let status = head.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in head.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Removes hop-by-hop fields, and takes the way to the connection where the request asks for another protocol.
fn take_upgrade(request: &mut Request<Body>) -> Option<OnUpgrade> {
    let is_connect = request.method() == Method::CONNECT;
    let fields = Fields::of(request.headers());
    let asks = fields.has_upgrade()
        && !is_connect
        && request.version() == Version::HTTP_11
        && asks_for_tunnel(request.headers());
    if fields.has_hop_by_hop() {
        let upgrade = if asks {
            hop_by_hop::Upgrade::Keep
        } else {
            hop_by_hop::Upgrade::Remove
        };
        hop_by_hop::remove(request.headers_mut(), upgrade);
    }
    (asks || is_connect).then(|| hyper::upgrade::on(request))
}

/// Whether an `Upgrade` field is meant, and is one that may be passed on.
///
/// `h2c` is not: RFC 9113 §3.1 has withdrawn it, and a server that took it up would turn the application's calls into
/// bytes that nobody can hold back or retry. The request goes on as the HTTP/1.1 that it is.
fn asks_for_tunnel(headers: &HeaderMap) -> bool {
    let is_listed = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    let is_h2c = headers
        .get_all(UPGRADE)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"h2c"));
    is_listed && !is_h2c
}

/// A response body on its way to the application; its end is the call's.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: Option<ResponseBody>,
    link: Arc<Link>,
    /// An empty body that does not say so before it is asked.
    hides_emptiness: bool,
    /// What the application speaks.
    client: Version,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        // hyper would take 64 KiB more before it looks whether the application takes any of it.
        if this.link.has_unwritten() && body.is_short_of_memory() {
            this.link.wait_until_written(cx.waker());
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) if frame.is_trailers() => {
                if let Some(trailers) = frame.trailers_ref()
                    && this.client == Version::HTTP_11
                {
                    this.link.trailers.put(trailers);
                }
                return Poll::Ready(None);
            }
            // Without chunks the connection's end would be the response's.
            Some(Ok(_)) => this.link.hand_out(),
            Some(Err(_)) if this.client == Version::HTTP_10 => this.link.tear(),
            Some(_) | None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        !self.hides_emptiness && self.body.as_ref().is_none_or(ResponseBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            _ if self.hides_emptiness => SizeHint::default(),
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.link.end();
    }
}
