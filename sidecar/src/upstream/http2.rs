//! HTTP/2 connections to upstreams: few a server, shared by all calls to it.
//!
//! A call takes a place on a connection before its request is handed to the `h2` crate, so that calls wait where we
//! see them: first in, first out, and bounded. The parts:
//!
//! | part | what it decides |
//! |---|---|
//! | [`endpoint`] | which connection a call gets, when another one is opened, who waits |
//! | [`connection`] | how a connection is opened, driven, and closed when idle |
//! | [`exchange`] | one call on a stream: request body, interim responses, response head |
//! | [`uploads`] | request bodies that go on while their response comes in |
//! | [`failure`] | what an error of the `h2` crate says about the request |

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::connect::Settings;
use crate::error::UpstreamError;
use crate::http::body::Body;

mod connection;
mod endpoint;
mod exchange;
mod failure;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod uploads;

use endpoint::Endpoint;

/// The HTTP/2 connections of one worker. Dropping it ends them.
#[derive(Debug)]
pub struct Pool {
    settings: Arc<Settings>,
    endpoints: Mutex<Endpoints>,
}

#[derive(Debug)]
struct Endpoints {
    by_addr: HashMap<SocketAddr, Arc<Endpoint>, RandomState>,
    /// At how many entries those without connections are forgotten.
    sweep_at: usize,
}

impl Pool {
    /// No connections yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            endpoints: Mutex::new(Endpoints {
                by_addr: HashMap::default(),
                sweep_at: SWEEP_AT_MIN,
            }),
        }
    }

    /// One exchange with `addr`. The response's body holds the stream's place until it ends or is dropped.
    ///
    /// Dropping the future, or the body before its end, resets the stream with CANCEL.
    ///
    /// # Errors
    /// When no response head came.
    pub async fn send(
        &self,
        addr: SocketAddr,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, UpstreamError> {
        exchange::exchange(&self.endpoint(addr), request).await
    }

    fn endpoint(&self, addr: SocketAddr) -> Arc<Endpoint> {
        let mut endpoints = lock(&self.endpoints);
        if let Some(endpoint) = endpoints.by_addr.get(&addr) {
            return Arc::clone(endpoint);
        }
        if endpoints.by_addr.len() >= endpoints.sweep_at {
            endpoints
                .by_addr
                .retain(|_, endpoint| !endpoint.is_unused());
            endpoints.sweep_at = SWEEP_AT_MIN.max(endpoints.by_addr.len().saturating_mul(2));
        }
        let endpoint = Endpoint::new(addr, Arc::clone(&self.settings));
        endpoints.by_addr.insert(addr, Arc::clone(&endpoint));
        endpoint
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for endpoint in lock(&self.endpoints).by_addr.values() {
            endpoint.close();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code of ours panics while it holds one of these locks; a poisoned one still holds a whole state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Below this many addresses, looking for unused ones costs more than they do.
const SWEEP_AT_MIN: usize = 64;
