//! Trailers around the limit: whole, or an error.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt as _;

use super::super::testing::raw;
use super::*;
use crate::http::body::BodyError;

/// What a response's body ends with whose trailers are this block, with these fields in its head.
async fn end_with_trailers(head: Vec<u8>, trailers: Vec<u8>) -> BodyError {
    let addr = raw::server(raw::streams_max(10), move |_, mut peer| {
        let head = [raw::OK, &head].concat();
        let trailers = trailers.clone();
        async move {
            let stream = peer.read_kind(raw::HEADERS).await.unwrap().stream;
            let head = raw::headers(0, stream, &head);
            let data = raw::frame(raw::DATA, 0, stream, b"hello");
            let trailers = raw::headers(raw::END_STREAM, stream, &trailers);
            peer.write(&[head, data, trailers].concat()).await;
            peer.closed().await;
        }
    })
    .await;
    let pool = pool();
    let response = pool.send(addr, request(Body::Empty)).await.unwrap();
    response.into_body().collect().await.unwrap_err()
}

#[tokio::test]
async fn trailers_over_the_limit_are_no_end_of_a_response() {
    for raw::Oversized {
        what,
        head,
        trailers,
    } in raw::oversized_trailers()
    {
        let error = end_with_trailers(head, trailers).await;
        assert!(
            matches!(error, BodyError::TrailersTooLarge(_)),
            "{what}: {error}"
        );
        assert_eq!(error.kind(), "trailers_too_large");
    }
}

#[tokio::test]
async fn trailers_far_over_the_limit_end_the_connection() {
    let error = end_with_trailers(Vec::new(), raw::field("x", &"x".repeat(120_000))).await;
    let BodyError::Http2(error) = error else {
        panic!("{error}");
    };
    let kind = error.get_io().map(std::io::Error::kind);
    assert_eq!(kind, Some(std::io::ErrorKind::InvalidData), "{error}");
}

/// Trailers of any size, and what their fields come to as RFC 9113 §6.5.2 counts them.
fn random_trailers(random: &mut fastrand::Rng) -> (Vec<u8>, usize) {
    let mut block = Vec::new();
    let mut bytes = 0;
    if random.u8(..4) == 0 {
        block.extend(raw::path(random.usize(..23_000)));
    }
    let size_max = [2_000, 60_000, 125_000][random.usize(..3)];
    let size = random.usize(..size_max);
    while bytes == 0 || block.len() < size {
        let eights = random.usize(..size_max / 6);
        let (fields, more) = match random.u8(..4) {
            0 => (raw::repeated(1 + eights % 40), (1 + eights % 40) * 4096),
            1 => (raw::field("x", &"x".repeat(eights)), eights + 33),
            2 => (raw::letters(eights), 8 * eights + 33),
            _ => (raw::repeated_name(eights), 8 * eights + 4096),
        };
        block.extend(fields);
        bytes += more;
    }
    (block, bytes)
}

#[tokio::test]
async fn trailers_of_any_size_pass_whole_or_not_at_all() {
    let mut random = fastrand::Rng::with_seed(64);
    let cases: Vec<_> = (0..500).map(|_| random_trailers(&mut random)).collect();
    let blocks: VecDeque<_> = cases.iter().map(|(block, _)| block.clone()).collect();
    let blocks = Arc::new(Mutex::new(blocks));
    let addr = raw::server(raw::streams_max(10), move |_, mut peer| {
        let blocks = Arc::clone(&blocks);
        async move {
            while let Some(call) = peer.read_kind(raw::HEADERS).await {
                let head = [raw::OK, &raw::table_entry()].concat();
                let head = raw::headers(0, call.stream, &head);
                let trailers = blocks.lock().unwrap().pop_front().unwrap();
                let trailers = raw::headers(raw::END_STREAM, call.stream, &trailers);
                peer.write(&[head, trailers].concat()).await;
            }
        }
    })
    .await;
    let pool = pool();
    let (mut whole, mut too_large, mut ended) = (0, 0, 0);
    for (block, bytes) in cases {
        let response = pool.send(addr, request(Body::Empty)).await.unwrap();
        match response.into_body().collect().await {
            Ok(read) => {
                let trailers = read.trailers().unwrap();
                let fields = trailers.iter();
                let came = fields.map(|(name, value)| name.as_str().len() + value.len() + 32);
                assert_eq!(came.sum::<usize>(), bytes, "a block of {}", block.len());
                assert!(bytes <= 64 * 1024, "{bytes}");
                whole += 1;
            }
            Err(BodyError::TrailersTooLarge(_)) => {
                assert!(bytes > 64 * 1024, "{bytes}");
                too_large += 1;
            }
            Err(_) => {
                assert!(block.len() > 112 * 1024 || bytes > 1 << 20, "{bytes}");
                ended += 1;
            }
        }
    }
    assert!(
        whole > 50 && too_large > 50 && ended > 5,
        "{whole} {too_large} {ended}"
    );
}
