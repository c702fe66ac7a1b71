//! Calls from a pod, and what became of them.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{ADMIN_PORT, NODE, Pod, addr};
use crate::http1::Connection;
use crate::inside::Inside;
use crate::scripted::Server;

/// An application's user.
pub const UID: &str = "1000";

/// Serves on every address of a namespace, and says what arrived: from where, and with what of weir's.
pub fn serve(inside: &Inside, port: u16) -> Server {
    let listener = inside.bind(addr("::", port)).expect("a port of our own");
    Server::over(listener, |stream, _| {
        let peer = stream.peer_addr().expect("it is connected").ip();
        let mut connection = Connection::over(stream);
        while let Ok(request) = connection.request() {
            let told = json!({
                "peer": peer.to_canonical(),
                "id": request.header("x-request-id"),
                "attempt": request.header("x-weir-attempt"),
            });
            let text = told.to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
            if connection.send(head + &text).is_err() {
                return;
            }
        }
    })
}

/// A call over an open connection; what the server saw of it.
pub fn call(connection: &mut Connection) -> Value {
    connection.get("a", "/").expect("an answer").json()
}

/// A call on a connection of its own, which is still open.
pub fn dial(inside: &Inside, to: SocketAddr) -> (Connection, Value) {
    let stream = inside
        .connect(to)
        .unwrap_or_else(|error| panic!("{to}: {error}"));
    let mut connection = Connection::over(stream);
    let seen = call(&mut connection);
    (connection, seen)
}

/// Fails unless the call passed weir.
pub fn assert_taken(inside: &Inside, to: SocketAddr) {
    let (_connection, seen) = dial(inside, to);
    assert!(seen["id"].is_string(), "{to} was not taken: {seen}");
}

/// Fails if the call passed weir.
pub fn assert_left_alone(inside: &Inside, to: SocketAddr) {
    let (_connection, seen) = dial(inside, to);
    assert!(seen["id"].is_null(), "{to} was taken: {seen}");
}

/// Fails unless the connection is refused without a wait.
pub fn assert_refused_at_once(inside: &Inside, to: SocketAddr) {
    let begun = Instant::now();
    let error = inside.connect(to).expect_err("nobody listens");
    assert!(error.to_string().contains("refused"), "{to}: {error}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{to}");
}

/// The proxy's metrics, as Prometheus reads them from elsewhere at this address.
pub fn scrape(elsewhere: &Inside, ip: &str) -> String {
    let to = addr(ip, ADMIN_PORT);
    let stream = elsewhere.connect(to);
    let stream = stream.unwrap_or_else(|error| panic!("{to}: {error}"));
    let page = Connection::over(stream).get("a", "/metrics");
    let page = page.expect("an answer");
    assert_eq!(page.status(), 200, "{to}");
    let text = page.text();
    assert!(text.contains("weir_build_info"), "{to}: {page:?}");
    text
}

/// What the proxy says of the application's connections.
pub fn connections(pod: &Pod) -> Vec<Value> {
    let all = pod.read("/v1/connections");
    all["items"].as_array().expect("a list").clone()
}

/// What it says of the one to this destination.
pub fn listed(pod: &Pod, to: SocketAddr) -> Value {
    let mut all = connections(pod);
    let found = all
        .iter()
        .position(|one| one["destination"] == to.to_string());
    let found = found.unwrap_or_else(|| panic!("{to} is not among {all:?}"));
    all.swap_remove(found)
}

/// The same port of the node, by each of its addresses.
pub fn node(port: u16) -> [SocketAddr; 2] {
    NODE.map(|ip| addr(ip, port))
}
