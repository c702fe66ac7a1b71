use std::net::SocketAddr;

use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;
use crate::drain;
use crate::upstream::Upstream;
use crate::upstream::connect::Settings;
use crate::upstream::http2::testing::raw::{self, Raw};
use crate::upstream::http2::testing::{Server, echo, read};

mod abuse;
mod endings;
mod header_limit;
mod messages;

/// A connection that is served with a proxy to `upstream`, seen from the application.
struct Served {
    io: DuplexStream,
    drain: drain::Drain,
    task: JoinHandle<()>,
    /// Keeps the upstream's connections when the application has gone.
    proxy: Proxy,
}

fn served(upstream: SocketAddr) -> Served {
    let (ours, io) = tokio::io::duplex(64 * 1024);
    let arrival = Arrival {
        original_destination: upstream,
        peer: "127.0.0.1:1".parse().unwrap(),
    };
    let (drain, draining) = drain::channel();
    let proxy = crate::proxy::fixture::proxy(Upstream::new(&Settings::default()));
    let task = tokio::spawn(serve(ours, arrival, proxy.clone(), draining));
    Served {
        io,
        drain,
        task,
        proxy,
    }
}

/// The same, with a client made with the `h2` crate.
struct Client {
    sender: SendRequest<Bytes>,
    drain: drain::Drain,
    task: JoinHandle<()>,
}

async fn client(upstream: SocketAddr) -> Client {
    let Served {
        io,
        drain,
        task,
        proxy: _,
    } = served(upstream);
    let (sender, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    Client {
        sender,
        drain,
        task,
    }
}

impl Client {
    /// Sends a POST whose body is still open.
    fn post(&mut self) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let request = http::Request::post("http://shop.example/cart")
            .body(())
            .unwrap();
        self.sender.send_request(request, false).unwrap()
    }

    /// Sends a GET.
    fn get(&mut self) -> h2::client::ResponseFuture {
        let request = http::Request::get("http://shop.example/cart")
            .body(())
            .unwrap();
        self.sender.send_request(request, true).unwrap().0
    }
}

/// A server that answers with an empty 200.
async fn empty() -> Server {
    Server::start(|_, mut respond: SendResponse<Bytes>| async move {
        let _the_call_may_be_gone = respond.send_response(http::Response::new(()), true);
    })
    .await
}

/// `ENHANCE_YOUR_CALM`.
const CALM: u32 = 11;

/// What a client gets that says this after its hello.
async fn answer_to(frames: &[u8]) -> (Option<raw::Frame>, Answered) {
    let server = empty().await;
    let Served { io, task, .. } = served(server.addr);
    let mut app = Raw::client(io).await;
    app.write(frames).await;
    let mut answer = app.read().await;
    while answer
        .as_ref()
        .is_some_and(|frame| frame.kind == raw::SETTINGS || frame.kind == 8)
    {
        answer = app.read().await;
    }
    (
        answer,
        Answered {
            app,
            task,
            _server: server,
        },
    )
}

struct Answered {
    app: Raw<DuplexStream>,
    task: JoinHandle<()>,
    _server: Server,
}

impl Answered {
    /// Fails unless the connection takes a further call.
    async fn assert_lives_on(&mut self) {
        self.app
            .write(&raw::frame(raw::HEADERS, 5, 3, raw::GET))
            .await;
        assert_eq!(self.app.read_kind(raw::HEADERS).await.unwrap().stream, 3);
    }
}
