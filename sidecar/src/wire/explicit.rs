//! The explicit HTTP proxy, for applications that may not be redirected: absolute targets and CONNECT.
//!
//! Each request with an absolute target is a call to the server that it names, whatever the connection carried before. A
//! CONNECT's bytes are treated like those of a redirected connection to the same server: HTTP in a tunnel is seen too.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::{Method, Request, Response};
use tokio::net::TcpStream;

use super::http1;
use crate::connection::{Dialled, Inlet, serve_dialled};
use crate::http::body::Body;
use crate::intercept::detect::prefixed::Prefixed;
use crate::proxy::{Arrival, Proxy};
use crate::stack::ResponseBody;
use crate::telemetry::metrics::Speaks;
use crate::upstream::connect;

pub mod names;
mod refusal;
mod target;

pub use names::Names;
pub use refusal::Refusal;

/// Serves a connection to the explicit proxy, until it ends.
pub async fn serve(socket: TcpStream, peer: SocketAddr, inlet: Inlet, names: Arc<Names>) {
    if let Err(error) = connect::socket_options(&socket) {
        // The connection is gone already, and says so when it is read.
        tracing::debug!(%peer, %error, "setting socket options");
    }
    let Ok(local) = socket.local_addr() else {
        return;
    };
    let revision = inlet.policies.current().revision;
    let mut listed = inlet.connections.add(peer, local, revision);
    listed.set(Speaks::Http1);
    let session = Arc::new(Session {
        peer,
        names,
        connect: inlet.connect.clone(),
        proxy: inlet.proxy.clone().on(listed.connection()),
        reached: Mutex::default(),
    });
    let answering = Arc::clone(&session);
    let answer = move |request| {
        let session = Arc::clone(&answering);
        async move { session.answer(request).await }
    };
    let downstream = Prefixed::new(Bytes::new(), socket).counted(listed.meter());
    let draining = inlet.draining.clone();
    let limits = http1::Limits {
        header_bytes_max: inlet.connect.header_bytes_max,
    };
    let client = inlet.ends.of(peer, local);
    let end = client.clone();
    let serving = http1::serve_until_tunnel(answer, limits, downstream, end, None, draining);
    let Some(tunnel) = Box::pin(serving).await else {
        return;
    };
    let Some(reached) = session.take_reached() else {
        // A server has switched protocols.
        return tunnel.carry::<Prefixed>().await;
    };
    // It is listed again, as a connection to the server that it asked for.
    drop(listed);
    if let Some(leg) = tunnel.downstream::<Prefixed>().await {
        let dialled = Dialled {
            downstream: Prefixed::new(leg.read_ahead, leg.socket),
            client,
            arrival: reached.arrival,
            name: Some(reached.name),
            upstream: Some(reached.upstream),
        };
        Box::pin(serve_dialled(dialled, inlet)).await;
    }
}

/// What the requests of one connection have in common.
#[derive(Debug)]
struct Session {
    peer: SocketAddr,
    names: Arc<Names>,
    connect: connect::Settings,
    proxy: Proxy,
    /// Set by the last request, if that is a CONNECT and its server was reached.
    reached: Mutex<Option<Reached>>,
}

/// The server that a CONNECT asked for.
#[derive(Debug)]
struct Reached {
    arrival: Arrival,
    /// The host as the application named it.
    name: Box<str>,
    upstream: TcpStream,
}

impl Session {
    async fn answer(&self, mut request: Request<Body>) -> Response<ResponseBody> {
        // RFC 9110 §11.7.2: meant for the first proxy that wants it. We want none, and no server is to see it.
        request.headers_mut().remove(PROXY_AUTHORIZATION);
        let answered = if *request.method() == Method::CONNECT {
            self.reach(&request).await
        } else {
            match self.locate(&request).await {
                Ok(arrival) => {
                    http1::to_origin_form(&mut request);
                    return self.proxy.answer(request, &arrival).await;
                }
                Err(refusal) => Err(refusal),
            }
        };
        match answered {
            Ok(reached) => {
                self.set_reached(reached);
                Response::new(ResponseBody::new(Body::Empty))
            }
            Err(refusal) => {
                tracing::debug!(peer = %self.peer, %refusal, "the explicit proxy refused a request");
                refusal.response(request.method())
            }
        }
    }

    /// Where a call goes.
    async fn locate(&self, request: &Request<Body>) -> Result<Arrival, Refusal> {
        let (host, port) = target::of_call(request.uri())?;
        let found = self.names.locate(host, port, &self.connect).await?;
        Ok(self.arrival(found))
    }

    /// Connects to a tunnel's other end.
    async fn reach(&self, request: &Request<Body>) -> Result<Reached, Refusal> {
        let (host, port) = target::of_tunnel(request.uri())?;
        let (found, upstream) = self.names.reach(host, port, &self.connect).await?;
        Ok(Reached {
            arrival: self.arrival(found),
            name: host.to_ascii_lowercase().into(),
            upstream,
        })
    }

    fn arrival(&self, original_destination: SocketAddr) -> Arrival {
        Arrival {
            original_destination,
            peer: self.peer,
        }
    }

    fn set_reached(&self, reached: Reached) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(reached);
    }

    fn take_reached(&self) -> Option<Reached> {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.take()
    }
}

#[cfg(test)]
mod tests;
