//! The proxy as a connection sees it: answers one request after the other.

use std::net::SocketAddr;
use std::sync::Arc;

use control_api::store::Store;
use http::Response;
use tower::Service as _;

use crate::call::{Call, Context, Outgoing, correlation};
use crate::destination::Destinations;
use crate::http::body::Body;
use crate::http::replay::ByteBudget;
use crate::intercept::connections::Connection;
use crate::respond;
use crate::stack::{self, ResponseBody, Stack};
use crate::telemetry::Telemetry;
use crate::upstream::Upstream;

/// How a request's connection reached us.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Where the application dialled, or what its CONNECT or absolute-form target resolved to.
    pub original_destination: SocketAddr,
    /// The application's end of the connection.
    pub peer: SocketAddr,
}

/// What all workers share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The policy in force.
    pub policies: Arc<Store>,
    /// What is known about each destination.
    pub destinations: Arc<Destinations>,
    /// Where everything that can be seen goes.
    pub telemetry: Telemetry,
    /// What request bodies kept for a replay may hold.
    pub kept_bytes: Arc<ByteBudget>,
}

/// One worker's proxy. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    stack: Stack<Upstream>,
    /// The connection that calls are counted on.
    connection: Option<Arc<Connection>>,
}

impl Proxy {
    /// A proxy that sends to `upstream`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, upstream: Upstream) -> Self {
        let stack = stack::over(
            upstream,
            shared.telemetry.clone(),
            Arc::clone(&shared.kept_bytes),
        );
        Self {
            shared,
            stack,
            connection: None,
        }
    }

    /// The same proxy, for one of the application's connections: its calls are counted there.
    #[must_use]
    pub fn on(self, connection: &Arc<Connection>) -> Self {
        Self {
            connection: Some(Arc::clone(connection)),
            ..self
        }
    }

    /// Answers one request: with the destination's response, or with one of ours that says why there is none.
    ///
    /// Dropping the future cancels the call, and gives back whatever it held.
    pub async fn answer(
        &self,
        request: http::Request<Body>,
        arrival: &Arrival,
    ) -> Response<ResponseBody> {
        if let Some(connection) = &self.connection {
            connection.count_call();
        }
        let (mut head, body) = request.into_parts();
        let call = self.begin(&mut head, arrival);
        let outgoing = Outgoing {
            began: call.begun,
            call: Arc::clone(&call),
            head,
            body,
            attempt: 0,
            span_id: [0; 8],
        };
        let mut response = match self.stack.clone().call(outgoing).await {
            Ok(response) => response,
            Err(error) => respond::with(&error, &call).map(ResponseBody::new),
        };
        response
            .headers_mut()
            .insert(correlation::REQUEST_ID, call.correlation_id.clone());
        response
    }

    /// The policy is read here, once a call.
    fn begin(&self, head: &mut http::request::Parts, arrival: &Arrival) -> Arc<Call> {
        let active = self.shared.policies.current();
        Call::begin(
            head,
            &Context {
                policy: &active.policy,
                revision: active.revision,
                destinations: &self.shared.destinations,
                original_destination: arrival.original_destination,
                telemetry: &self.shared.telemetry,
            },
        )
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! A proxy with the built-in policy, for the tests of those who call it.

    use control_api::store::Sources;

    use super::*;

    /// Sends to `upstream` under the built-in policy.
    pub(crate) fn proxy(upstream: Upstream) -> Proxy {
        let shared = Shared {
            policies: Store::open(Sources::default()).0,
            destinations: Arc::new(Destinations::new(16)),
            telemetry: Telemetry::default(),
            kept_bytes: Arc::new(ByteBudget::new(1 << 20)),
        };
        Proxy::new(Arc::new(shared), upstream)
    }
}
