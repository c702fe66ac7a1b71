use std::time::Duration;

use control_api::well_known::EXPLICIT_PROXY_PORT;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::connection::tests::inlet;
use crate::intercept::detect::tests::client_hello;

/// An application's connection to the explicit proxy.
async fn dial(inlet: &Inlet) -> TcpStream {
    let (listener, addr) = listener().await;
    let app = TcpStream::connect(addr).await.unwrap();
    let (socket, peer) = listener.accept().await.unwrap();
    tokio::spawn(serve(socket, peer, inlet.clone(), Arc::default()));
    app
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A server that answers each request with its name and the request's first line.
async fn server(name: &'static str) -> SocketAddr {
    let (listener, addr) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Some(head) = read_head(&mut socket).await {
                    let body = format!("{name}: {head}");
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    addr
}

/// Reads to the end of a header section.
async fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(socket.read_u8()).await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Reads one response: its status line and its body, by its content-length.
async fn read_response(socket: &mut TcpStream) -> (String, String) {
    let head = read_head(socket).await.expect("no response");
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    within(socket.read_exact(&mut body)).await.unwrap();
    let status = head.lines().next().unwrap().to_owned();
    (status, String::from_utf8(body).unwrap())
}

async fn ask(app: &mut TcpStream, request: &str) -> (String, String) {
    app.write_all(request.as_bytes()).await.unwrap();
    read_response(app).await
}

/// Nothing here takes long; what does is lost.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it never came")
}

#[tokio::test]
async fn each_request_of_a_connection_goes_to_the_server_that_it_names() {
    let (one, two) = (server("one").await, server("two").await);
    let mut app = dial(&inlet()).await;
    for (name, addr) in [("one", one), ("two", two), ("one", one)] {
        let request = format!(
            "GET http://{addr}/a?b HTTP/1.1\r\nhost: other\r\nproxy-connection: keep-alive\r\n\
             proxy-authorization: Basic c2VjcmV0\r\n\r\n"
        );
        let (status, body) = ask(&mut app, &request).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(
            body.starts_with(&format!("{name}: GET /a?b HTTP/1.1\r\n")),
            "{body}"
        );
        assert!(body.contains(&format!("host: {addr}\r\n")), "{body}");
        assert!(!body.to_ascii_lowercase().contains("proxy-"), "{body}");
    }
}

#[tokio::test]
async fn calls_inside_a_tunnel_are_calls_like_any_other() {
    let addr = server("one").await;
    let inlet = inlet();
    let mut app = dial(&inlet).await;
    let (status, _) = ask(
        &mut app,
        &format!("CONNECT {addr} HTTP/1.1\r\nhost: {addr}\r\n\r\n"),
    )
    .await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (status, body) = ask(&mut app, "GET /in HTTP/1.1\r\nhost: shop\r\n\r\n").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(
        body.contains("x-request-id: "),
        "the call was not seen: {body}"
    );
    let listed = inlet.connections.snapshot(10);
    assert_eq!(
        listed.len(),
        1,
        "the tunnel replaces the proxy's connection"
    );
    assert_eq!(listed[0].speaks(), Speaks::Http1);
    assert_eq!(listed[0].destination(), addr);
    assert_eq!(listed[0].name(), Some("127.0.0.1"));
}

#[tokio::test]
async fn bytes_sent_with_the_connect_are_the_tunnels_first() {
    let (server, addr) = listener().await;
    let hello = client_hello(Some("shop.example"), 16_384);
    let mut app = dial(&inlet()).await;
    let mut request = format!("CONNECT {addr} HTTP/1.1\r\nhost: {addr}\r\n\r\n").into_bytes();
    request.extend(&hello);
    app.write_all(&request).await.unwrap();
    let (status, _) = read_response(&mut app).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (mut peer, _) = within(server.accept()).await.unwrap();
    let mut seen = vec![0; hello.len()];
    within(peer.read_exact(&mut seen)).await.unwrap();
    assert_eq!(seen, hello);
}

#[tokio::test]
async fn a_server_that_speaks_first_in_a_tunnel_is_heard() {
    let (server, addr) = listener().await;
    let mut app = dial(&inlet()).await;
    let (status, _) = ask(
        &mut app,
        &format!("CONNECT {addr} HTTP/1.1\r\nhost: {addr}\r\n\r\n"),
    )
    .await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (mut peer, _) = within(server.accept()).await.unwrap();
    peer.write_all(b"220 mail").await.unwrap();
    let mut greeting = [0; 8];
    within(app.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"220 mail");
}

#[tokio::test]
async fn a_tunnel_may_follow_a_call_on_the_same_connection() {
    let addr = server("one").await;
    let mut app = dial(&inlet()).await;
    let (status, _) = ask(
        &mut app,
        &format!("GET http://{addr}/ HTTP/1.1\r\nhost: {addr}\r\n\r\n"),
    )
    .await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (status, _) = ask(
        &mut app,
        &format!("CONNECT {addr} HTTP/1.1\r\nhost: {addr}\r\n\r\n"),
    )
    .await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (_, body) = ask(&mut app, "GET /in HTTP/1.1\r\nhost: shop\r\n\r\n").await;
    assert!(body.starts_with("one: GET /in"), "{body}");
}

#[tokio::test]
async fn what_the_proxy_cannot_do_is_explained() {
    let (dead, refusing) = listener().await;
    drop(dead);
    let inlet = inlet();
    for (request, status, detail) in [
        (
            "GET /a HTTP/1.1\r\nhost: shop\r\n\r\n".to_owned(),
            "400",
            "absolute target",
        ),
        (
            "GET https://shop/ HTTP/1.1\r\nhost: shop\r\n\r\n".to_owned(),
            "400",
            "use CONNECT",
        ),
        (
            "CONNECT shop HTTP/1.1\r\nhost: shop\r\n\r\n".to_owned(),
            "400",
            "port",
        ),
        (
            "GET http://no.invalid/ HTTP/1.1\r\nhost: no.invalid\r\n\r\n".to_owned(),
            "502",
            "no.invalid",
        ),
        (
            "CONNECT no.invalid:443 HTTP/1.1\r\nhost: no.invalid\r\n\r\n".to_owned(),
            "502",
            "no.invalid",
        ),
        (
            format!("CONNECT {refusing} HTTP/1.1\r\nhost: a\r\n\r\n"),
            "502",
            "refused",
        ),
        (
            format!("GET http://{refusing}/ HTTP/1.1\r\nhost: a\r\n\r\n"),
            "502",
            "refused",
        ),
        (
            format!("CONNECT 127.0.0.1:{EXPLICIT_PROXY_PORT} HTTP/1.1\r\nhost: a\r\n\r\n"),
            "403",
            "loop",
        ),
        (
            format!("GET http://127.0.0.1:{EXPLICIT_PROXY_PORT}/ HTTP/1.1\r\nhost: a\r\n\r\n"),
            "403",
            "loop",
        ),
    ] {
        let mut app = dial(&inlet).await;
        let (line, body) = ask(&mut app, &request).await;
        assert!(
            line.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {line}"
        );
        assert!(body.contains(detail), "{request}: {body}");
    }
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_usable() {
    let addr = server("one").await;
    let mut app = dial(&inlet()).await;
    let (line, _) = ask(&mut app, "GET /a HTTP/1.1\r\nhost: shop\r\n\r\n").await;
    assert!(line.starts_with("HTTP/1.1 400 "), "{line}");
    let (status, _) = ask(
        &mut app,
        &format!("GET http://{addr}/ HTTP/1.1\r\nhost: {addr}\r\n\r\n"),
    )
    .await;
    assert_eq!(status, "HTTP/1.1 200 OK");
}
