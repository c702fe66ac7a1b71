//! The straight line that every intercepted connection takes: where to, what is it, serve it.
//!
//! HTTP goes on to [`wire::http1`](crate::wire::http1) and [`wire::http2`](crate::wire::http2), which decode calls for
//! the [`Proxy`]; everything else is forwarded by [`wire::opaque`](crate::wire::opaque).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use control_api::store::Store;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::drain::Draining;
use crate::error::UpstreamError;
use crate::intercept::client_end::{ClientEnd, Ends};
use crate::intercept::connections::Connections;
use crate::intercept::detect::prefixed::Prefixed;
use crate::intercept::detect::race::{Detected, Http, Opaque, Patience, Sign, race};
use crate::intercept::detect::remembered::{Habit, Remembered};
use crate::intercept::original_dst;
use crate::proxy::{Arrival, Proxy};
use crate::telemetry::metrics::{Detection, Speaks};
use crate::upstream::connect::{self, connect};
use crate::wire::tunnel::reset;
use crate::wire::{http1, http2, opaque};

/// What a worker serves its connections with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inlet {
    /// Answers the calls.
    pub proxy: Proxy,
    /// How upstream connections are opened for what is not HTTP.
    pub connect: connect::Settings,
    /// How long detection waits.
    pub patience: Patience,
    /// Tells connections to finish.
    pub draining: Draining,
    /// Which ports are not looked into.
    pub policies: Arc<Store>,
    /// Ports besides that are not looked into, whatever the policy.
    pub opaque_ports: Arc<[u16]>,
    /// What is known of destinations' earlier connections. One for the process.
    pub remembered: Arc<Remembered>,
    /// The application's open connections. One for the process.
    pub connections: Arc<Connections>,
    /// Who knows whether the application still holds its end of a connection. One for the process.
    pub ends: Ends,
}

/// Serves a connection that the redirect rules sent to us, until it ends.
pub async fn serve(socket: TcpStream, peer: SocketAddr, inlet: Inlet) {
    if let Err(error) = connect::socket_options(&socket) {
        // The connection is gone already, and says so when it is read.
        tracing::debug!(%peer, %error, "setting socket options");
    }
    match original_dst::of(&socket) {
        Ok(original_destination) => {
            let arrival = Arrival {
                original_destination,
                peer,
            };
            let dialled = Dialled {
                downstream: Prefixed::new(Bytes::new(), socket),
                client: inlet.ends.of(peer, original_destination),
                arrival,
                name: None,
                upstream: None,
            };
            serve_dialled(dialled, inlet).await;
        }
        Err(error) => {
            inlet.connections.metrics().detected(Detection::Refused);
            tracing::warn!(%peer, %error, "connection refused");
            reset(socket);
        }
    }
}

/// A connection of the application whose destination is known.
#[derive(Debug)]
pub struct Dialled {
    /// The application's side.
    pub downstream: Prefixed,
    /// Its other end.
    pub client: ClientEnd,
    /// Where it comes from and where it goes.
    pub arrival: Arrival,
    /// What the application called its destination, where that is known.
    pub name: Option<Box<str>>,
    /// The connection to its server, where there is one already.
    pub upstream: Option<TcpStream>,
}

/// Serves a connection whose destination is known, until it ends.
pub async fn serve_dialled(dialled: Dialled, inlet: Inlet) {
    let Dialled {
        downstream,
        client,
        arrival,
        name,
        upstream,
    } = dialled;
    let destination = arrival.original_destination;
    let (is_opaque, revision) = inlet.look_up(destination.port());
    let mut listed = inlet.connections.add(arrival.peer, destination, revision);
    if let Some(name) = name {
        listed.connection().set_name(name);
    }
    let proxy = inlet.proxy.clone().on(listed.connection());
    let draining = inlet.draining.clone();
    // Boxed: detection is over soon, and the task must not keep its size for the connection's whole life.
    let detected = if is_opaque {
        Box::pin(inlet.skip_detection(downstream, upstream, destination)).await
    } else {
        Box::pin(inlet.detect(downstream, upstream, destination)).await
    };
    match detected {
        Detected::Http1(Http { downstream, spare }) => {
            drop(spare);
            listed.set(Speaks::Http1);
            let downstream = downstream.counted(listed.meter());
            // Boxed: most of a task's size would be unused by all connections that are not HTTP.
            let limits = http1::Limits {
                header_bytes_max: inlet.connect.header_bytes_max,
            };
            Box::pin(http1::serve_within(
                limits, downstream, client, arrival, proxy, draining,
            ))
            .await;
        }
        Detected::Http2(Http { downstream, spare }) => {
            drop(spare);
            listed.set(Speaks::Http2);
            let downstream = downstream.counted(listed.meter());
            let limits = http2::Limits {
                header_bytes_max: inlet.connect.header_bytes_max,
            };
            Box::pin(http2::serve_within(
                limits, downstream, arrival, proxy, draining,
            ))
            .await;
        }
        Detected::Opaque(opaque) => opaque::forward(opaque, listed).await,
        Detected::Gone(error) => tracing::debug!(%error, "the application reset its connection"),
    }
}

impl Inlet {
    /// Whether a port is not looked into, and by which revision of the policy.
    fn look_up(&self, port: u16) -> (bool, u64) {
        let active = self.policies.current();
        let is_opaque = self.opaque_ports.contains(&port) || active.policy.is_opaque_port(port);
        (is_opaque, active.revision)
    }

    /// What goes to an opaque port.
    async fn skip_detection(
        &self,
        downstream: Prefixed,
        upstream: Option<TcpStream>,
        destination: SocketAddr,
    ) -> Detected<UpstreamError> {
        self.detected(Detection::Skipped);
        let (first_bytes, downstream) = downstream.into_parts();
        Detected::Opaque(Opaque {
            upstream: match upstream {
                Some(upstream) => Ok(upstream),
                None => connect(destination, &self.connect).await,
            },
            downstream,
            first_bytes,
            sign: Sign::Unknown,
        })
    }

    async fn detect(
        &self,
        downstream: Prefixed,
        upstream: Option<TcpStream>,
        destination: SocketAddr,
    ) -> Detected<UpstreamError> {
        let connect = connect(destination, &self.connect);
        let habit = self.remembered.habit(destination, Instant::now());
        let is_dialled = upstream.is_some();
        let detected = race(downstream, upstream, connect, habit, self.patience).await;
        self.detected(outcome(&detected));
        if !is_dialled {
            self.learn(destination, habit, &detected);
        }
        detected
    }

    fn detected(&self, detection: Detection) {
        self.connections.metrics().detected(detection);
    }

    fn learn<E>(&self, destination: SocketAddr, known: Option<Habit>, detected: &Detected<E>) {
        let shown = match detected {
            Detected::Http1(http) | Detected::Http2(http) if http.spare.is_some() => {
                Some(Habit::LateHttp)
            }
            Detected::Http1(_) | Detected::Http2(_) => {
                known.filter(|known| *known == Habit::LateHttp)
            }
            Detected::Opaque(opaque) => match opaque.sign {
                Sign::ServerFirst | Sign::Unreachable => Some(Habit::ServerFirst),
                Sign::TimedOut => Some(Habit::Ambiguous),
                Sign::Tls(_) | Sign::Unknown => None,
                Sign::ServerClosed | Sign::ApplicationClosed => known,
            },
            Detected::Gone(_) => known,
        };
        match shown {
            Some(habit) => self.remembered.note(destination, habit, Instant::now()),
            None if known.is_some() => self.remembered.forget(destination),
            None => {}
        }
    }
}

/// What is counted of a detection.
fn outcome<E>(detected: &Detected<E>) -> Detection {
    match detected {
        Detected::Http1(_) => Detection::Http1,
        Detected::Http2(_) => Detection::Http2,
        Detected::Gone(_) => Detection::Closed,
        Detected::Opaque(opaque) => match opaque.sign {
            Sign::Tls(_) => Detection::Tls,
            Sign::Unknown => Detection::Opaque,
            Sign::ServerFirst => Detection::ServerFirst,
            Sign::ServerClosed | Sign::ApplicationClosed => Detection::Closed,
            Sign::TimedOut => Detection::TimedOut,
            Sign::Unreachable => Detection::Unreachable,
        },
    }
}

#[cfg(test)]
pub(crate) mod tests;
