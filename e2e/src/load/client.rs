//! Makes one call: on an idle HTTP/1.1 connection or a new one, or on one of the HTTP/2 connections.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::{Plan, Protocol};

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// A whole response, with its status and the reason for which weir refused the call, if it did.
    Answered(u16, Option<String>),
    /// The caller went away.
    TimedOut,
    /// No connection.
    NotConnected,
    /// The connection or stream broke.
    Broken,
}

/// An HTTP/1.1 connection that is idle.
pub(crate) type Idle = http1::SendRequest<Full<Bytes>>;

/// The connections, and the request that goes over them.
pub(crate) struct Client {
    plan: Rc<Plan>,
    addr: SocketAddr,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    open: Semaphore,
    idle: RefCell<Vec<Idle>>,
    streams: RefCell<Vec<Option<h2::client::SendRequest<Bytes>>>>,
    turn: Cell<usize>,
}

impl Client {
    pub(crate) fn new(plan: Rc<Plan>) -> Self {
        let authority = plan.url.authority().expect("the URL has a host").clone();
        let with_port = if authority.port().is_some() {
            authority.to_string()
        } else {
            format!("{authority}:80")
        };
        let addr = std::net::ToSocketAddrs::to_socket_addrs(&with_port)
            .ok()
            .and_then(|mut found| found.next())
            .expect("the host resolves");
        let headers = plan.header.iter().map(|line| parse_header(line)).collect();
        let body = Bytes::from(vec![b'b'; plan.body_bytes]);
        let open = Semaphore::new(plan.connections);
        let streams = RefCell::new(vec![None; plan.connections]);
        Self {
            plan,
            addr,
            headers,
            body,
            open,
            idle: RefCell::default(),
            streams,
            turn: Cell::new(0),
        }
    }

    /// Makes a call and reads the response to its end.
    pub(crate) async fn call(&self, number: u64) -> Outcome {
        let timeout = Duration::from_secs_f64(self.plan.timeout_ms / 1000.0);
        let call = async {
            match self.plan.protocol {
                Protocol::H1 => self.call_http1(number).await,
                Protocol::H2 => self.call_http2(number).await,
            }
        };
        tokio::time::timeout(timeout, call)
            .await
            .unwrap_or(Outcome::TimedOut)
    }

    /// Opens an HTTP/1.1 connection, makes a call on it, and gives it to the caller.
    pub(crate) async fn connect_and_call(&self, number: u64) -> Result<Idle, Outcome> {
        let mut connection = self.connect_http1().await?;
        self.exchange(&mut connection, number).await?;
        Ok(connection)
    }

    async fn call_http1(&self, number: u64) -> Outcome {
        let Ok(_turn) = self.open.acquire().await else {
            return Outcome::NotConnected;
        };
        let idle = self
            .idle
            .borrow_mut()
            .pop()
            .filter(|connection| !connection.is_closed());
        let mut connection = match idle {
            Some(connection) => connection,
            None => match self.connect_http1().await {
                Ok(connection) => connection,
                Err(outcome) => return outcome,
            },
        };
        match self.exchange(&mut connection, number).await {
            Ok(outcome) => {
                // The connection may have been closed after the response; then it is not kept.
                if connection.ready().await.is_ok() {
                    self.idle.borrow_mut().push(connection);
                }
                outcome
            }
            Err(outcome) => outcome,
        }
    }

    async fn connect_http1(&self) -> Result<Idle, Outcome> {
        let stream = TcpStream::connect(self.addr)
            .await
            .map_err(|_| Outcome::NotConnected)?;
        stream
            .set_nodelay(true)
            .map_err(|_| Outcome::NotConnected)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Outcome::NotConnected)?;
        // An error of the connection shows at the call.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn exchange(&self, connection: &mut Idle, number: u64) -> Result<Outcome, Outcome> {
        let path = self
            .plan
            .url
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let authority = self.plan.url.authority().expect("checked above").as_str();
        let request = self.request(number, path).header("host", authority);
        let request = request
            .body(Full::new(self.body.clone()))
            .expect("the plan's request is well formed");
        let response = connection
            .send_request(request)
            .await
            .map_err(|_| Outcome::Broken)?;
        let (head, body) = response.into_parts();
        body.collect().await.map_err(|_| Outcome::Broken)?;
        Ok(answered(&head))
    }

    async fn call_http2(&self, number: u64) -> Outcome {
        let turn = self.turn.get();
        self.turn.set((turn + 1) % self.plan.connections);
        match self.stream(turn, number).await {
            Ok(outcome) => outcome,
            Err(error) => {
                // A dead connection is opened anew by the next call that is its turn.
                if error.is_go_away() || error.is_io() {
                    self.streams.borrow_mut()[turn] = None;
                }
                Outcome::Broken
            }
        }
    }

    async fn stream(&self, turn: usize, number: u64) -> Result<Outcome, h2::Error> {
        let existing = self.streams.borrow()[turn].clone();
        let sender = match existing {
            Some(sender) => sender,
            None => match self.connect_http2(turn).await {
                Some(sender) => sender,
                None => return Ok(Outcome::NotConnected),
            },
        };
        let mut sender = sender.ready().await?;
        let request = self.request(number, &self.plan.url.to_string());
        let request = request.body(()).expect("the plan's request is well formed");
        let (response, mut stream) = sender.send_request(request, self.body.is_empty())?;
        if !self.body.is_empty() {
            stream.send_data(self.body.clone(), true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
        }
        let _trailers = body.trailers().await?;
        Ok(answered(&head))
    }

    async fn connect_http2(&self, turn: usize) -> Option<h2::client::SendRequest<Bytes>> {
        let stream = TcpStream::connect(self.addr).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (sender, connection) = h2::client::handshake(stream).await.ok()?;
        // An error of the connection shows at the calls.
        tokio::task::spawn_local(async move { drop(connection.await) });
        self.streams.borrow_mut()[turn] = Some(sender.clone());
        Some(sender)
    }

    fn request(&self, number: u64, target: &str) -> http::request::Builder {
        let mut request = Request::builder()
            .method(self.plan.method.clone())
            .uri(target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if self.plan.ids {
            request = request.header("x-e2e-id", format!("{}-{number}", self.plan.seed));
        }
        request
    }
}

fn answered(head: &http::response::Parts) -> Outcome {
    let shed = head
        .headers
        .get("x-weir-shed")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    Outcome::Answered(head.status.as_u16(), shed)
}

fn parse_header(line: &str) -> (HeaderName, HeaderValue) {
    let (name, value) = line.split_once(':').expect("--header is `name: value`");
    let name = name.trim().parse().expect("--header has a name");
    (name, value.trim().parse().expect("--header has a value"))
}
