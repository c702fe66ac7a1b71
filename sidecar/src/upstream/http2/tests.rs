use http_body_util::BodyExt as _;

use super::testing::{Server, echo};
use super::*;

fn pool() -> Pool {
    Pool::new(Settings::default())
}

fn request(body: Body) -> http::Request<Body> {
    http::Request::post("http://shop.example/cart")
        .version(http::Version::HTTP_2)
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn a_body_goes_there_and_back() {
    let server = Server::start(echo).await;
    let pool = pool();
    let response = pool
        .send(server.addr, request(Body::full("hello")))
        .await
        .unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hello");
}

#[tokio::test]
async fn calls_to_a_cold_address_share_one_handshake() {
    let server = Server::start(echo).await;
    let pool = Arc::new(pool());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (pool, addr) = (Arc::clone(&pool), server.addr);
        calls.spawn(async move { pool.send(addr, request(Body::Empty)).await.map(drop) });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
    assert_eq!(server.connections(), 1);
}
