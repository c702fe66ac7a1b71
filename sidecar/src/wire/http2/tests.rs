use std::net::SocketAddr;

use h2::client::SendRequest;

use super::*;
use crate::drain;
use crate::upstream::Upstream;
use crate::upstream::connect::Settings;
use crate::upstream::http2::testing::{Server, echo, read};

/// A client on a connection that is served with a proxy to `upstream`.
async fn client(upstream: SocketAddr) -> (SendRequest<Bytes>, drain::Drain) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let arrival = Arrival {
        original_destination: upstream,
        peer: "127.0.0.1:1".parse().unwrap(),
    };
    let (drain, draining) = drain::channel();
    let proxy = crate::proxy::fixture::proxy(Upstream::new(&Settings::default()));
    tokio::spawn(serve(ours, arrival, proxy, draining));
    let (sender, connection) = h2::client::handshake(theirs).await.unwrap();
    tokio::spawn(connection);
    (sender, drain)
}

#[tokio::test]
async fn a_call_is_relayed() {
    let server = Server::start(echo).await;
    let (mut client, _drain) = client(server.addr).await;
    let request = http::Request::post("http://shop.example/cart")
        .body(())
        .unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data("hello".into(), true).unwrap();
    let mut response = response.await.unwrap();
    assert_eq!(read(response.body_mut()).await.unwrap().0, b"hello");
}
