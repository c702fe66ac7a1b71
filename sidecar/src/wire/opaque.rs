//! Forwards a connection that is not HTTP as it is: TLS, databases, servers that speak first.

use crate::error::UpstreamError;
use crate::intercept::connections::Guard;
use crate::intercept::detect::race::{Opaque, Sign};
use crate::telemetry::metrics::{Side, Speaks};
use crate::wire::tunnel::{Leg, Towards, reset, splice};

/// Forwards a connection until it ends. `listed` is its entry among the open connections, where its bytes are counted.
///
/// A server that cannot be reached looks to the application like one that reset.
pub async fn forward(opaque: Opaque<UpstreamError>, mut listed: Guard) {
    let Opaque {
        downstream,
        first_bytes,
        upstream,
        sign,
    } = opaque;
    let speaks = speaks(&sign);
    listed.set(speaks);
    if let Sign::Tls(Some(name)) = sign {
        listed.connection().set_name(name);
    }
    let upstream = match upstream {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::debug!(%error, "resetting the application's connection");
            return reset(downstream);
        }
    };
    let counted = listed.metrics().connection(Side::Upstream, speaks);
    let count = |towards, bytes| match towards {
        Towards::Upstream => {
            listed.received(bytes);
            counted.sent(bytes);
        }
        Towards::Downstream => {
            counted.received(bytes);
            listed.sent(bytes);
        }
    };
    let downstream = Leg::from(downstream).and_read(first_bytes);
    let end = splice(downstream, upstream.into(), count).await;
    tracing::trace!(?end, "a forwarded connection ended");
}

fn speaks(sign: &Sign) -> Speaks {
    match sign {
        Sign::Tls(_) => Speaks::Tls,
        Sign::Unknown
        | Sign::ServerFirst
        | Sign::ServerClosed
        | Sign::ApplicationClosed
        | Sign::TimedOut
        | Sign::Unreachable => Speaks::Opaque,
    }
}
