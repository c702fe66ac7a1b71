//! What a namespace needs beside the data plane: DNS, and the published ports.

use std::net::UdpSocket;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::intercept::dns::{self, Resolvers};
use crate::intercept::inside::Inside;
use crate::intercept::publish::{self, Published, Relays};

/// Ready to be served; does nothing until then.
#[derive(Debug, Default)]
pub struct Services {
    pub(super) dns: Vec<UdpSocket>,
    pub(super) published: Vec<Published>,
    pub(super) inside: Option<Inside>,
    pub(super) relays: Relays,
}

impl Services {
    /// The host's addresses at which published ports are reachable, each with the command's port.
    #[must_use]
    pub fn published(&self) -> Vec<(std::net::SocketAddr, u16)> {
        self.published
            .iter()
            .flat_map(|published| published.listeners.iter().map(|l| (l, published.port)))
            .filter_map(|(listener, port)| Some((listener.local_addr().ok()?, port)))
            .collect()
    }

    /// Serves until dropped, with names from the host's resolvers. To be spawned on a runtime with IO and time.
    pub async fn serve(self) {
        self.serve_with(Resolvers::of_host()).await;
    }

    /// The same with names from `resolvers`.
    ///
    /// What breaks is logged and given up by itself: without DNS the command still has its connections.
    pub async fn serve_with(self, resolvers: Resolvers) {
        let resolvers = Arc::new(resolvers);
        let mut tasks = JoinSet::new();
        for socket in self.dns {
            let relay = dns::relay(socket, Arc::clone(&resolvers));
            tasks.spawn(async move { ("DNS", relay.await) });
        }
        if let Some(inside) = self.inside {
            for published in self.published {
                for listener in published.listeners {
                    let served = publish::serve(
                        listener,
                        published.port,
                        inside.clone(),
                        self.relays.clone(),
                    );
                    tasks.spawn(async move { ("a published port", served.await) });
                }
            }
        }
        while let Some(ended) = tasks.join_next().await {
            if let Ok((what, Err(error))) = ended {
                tracing::error!(%error, "{what} is no longer served");
            }
        }
    }
}
