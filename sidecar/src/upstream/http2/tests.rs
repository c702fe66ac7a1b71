use http_body_util::BodyExt as _;

use super::testing::{Server, echo};
use super::*;
use crate::telemetry::metrics::{Direction, Side, Speaks};

mod bodies;
mod failures;
mod places;
mod trailers;

fn pool() -> Arc<Pool> {
    Arc::new(Pool::new(Settings::default()))
}

fn request(body: Body) -> http::Request<Body> {
    http::Request::post("http://shop.example/cart")
        .version(http::Version::HTTP_2)
        .body(body)
        .unwrap()
}

async fn bytes(response: http::Response<Body>) -> bytes::Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn a_body_goes_there_and_back() {
    let server = Server::start(echo).await;
    let pool = pool();
    let response = pool.send(server.addr, request(Body::full("hello"))).await;
    assert_eq!(bytes(response.unwrap()).await, "hello");
}

#[tokio::test]
async fn a_connection_and_its_bytes_are_counted_until_it_ends() {
    let server = Server::start(echo).await;
    let settings = Settings::default();
    let metrics = Arc::clone(&settings.metrics);
    let pool = Pool::new(settings);
    let body = vec![b'a'; 10_000];
    let response = pool.send(server.addr, request(Body::full(body))).await;
    assert_eq!(bytes(response.unwrap()).await.len(), 10_000);
    for direction in [Direction::Sent, Direction::Received] {
        let bytes = metrics.bytes_of(Side::Upstream, direction);
        assert!((10_000..12_000).contains(&bytes), "{direction:?}: {bytes}");
    }
    assert_eq!(metrics.open(Side::Upstream, Speaks::Http2), 1);
    drop(pool);
    while metrics.open(Side::Upstream, Speaks::Http2) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_without_authority_goes_on_as_it_came() {
    let server = Server::start(
        |request: http::Request<h2::RecvStream>,
         mut respond: h2::server::SendResponse<bytes::Bytes>| async move {
            assert_eq!(request.uri().authority(), None);
            assert_eq!(request.headers()["host"], "shop");
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
        },
    )
    .await;
    let request = http::Request::get("/cart")
        .version(http::Version::HTTP_2)
        .header("host", "shop")
        .body(Body::Empty)
        .unwrap();
    let pool = pool();
    let response = pool.send(server.addr, request).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn dropping_the_pool_ends_its_connections() {
    let (ended, mut has_ended) = tokio::sync::mpsc::channel(1);
    let addr = testing::raw::server(testing::raw::streams_max(10), move |_, mut peer| {
        let ended = ended.clone();
        async move {
            let call = peer.read_kind(testing::raw::HEADERS).await.unwrap();
            let answer =
                testing::raw::frame(testing::raw::HEADERS, 5, call.stream, testing::raw::OK);
            peer.write(&answer).await;
            peer.closed().await;
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let pool = pool();
    pool.send(addr, request(Body::Empty)).await.unwrap();
    drop(pool);
    has_ended.recv().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_used_one_is_not() {
    let (ended, mut has_ended) = tokio::sync::mpsc::channel(1);
    let addr = testing::raw::server(testing::raw::streams_max(10), move |_, mut peer| {
        let ended = ended.clone();
        async move {
            while let Some(call) = peer.read_kind(testing::raw::HEADERS).await {
                let answer =
                    testing::raw::frame(testing::raw::HEADERS, 5, call.stream, testing::raw::OK);
                peer.write(&answer).await;
            }
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let pool = pool();
    pool.send(addr, request(Body::Empty)).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_mins(5)).await;
    assert!(
        has_ended.try_recv().is_err(),
        "it was used since the timer was set"
    );
    tokio::time::advance(std::time::Duration::from_mins(5)).await;
    has_ended.recv().await.unwrap();
}

#[tokio::test]
async fn addresses_without_connections_are_forgotten() {
    let pool = pool();
    // A port that nobody listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for last in 1..=u8::try_from(SWEEP_AT_MIN + 10).unwrap() {
        let addr = SocketAddr::from(([127, 0, 0, last], port));
        pool.send(addr, request(Body::Empty)).await.unwrap_err();
    }
    assert!(lock(&pool.endpoints).by_addr.len() <= SWEEP_AT_MIN);
}
