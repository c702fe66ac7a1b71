//! Trailers around the limit: whole, or an error.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Collected};
use tokio::sync::Notify;

use super::super::testing::raw;
use super::*;
use crate::http::body::BodyError;

/// A response's body whose trailers are this block, sent once its head was read; that has these fields.
async fn body_with_trailers(
    pool: &Pool,
    head: Vec<u8>,
    trailers: Vec<u8>,
) -> Result<Collected<bytes::Bytes>, BodyError> {
    let head_was_read = Arc::new(Notify::new());
    let was_read = Arc::clone(&head_was_read);
    let addr = raw::server(raw::streams_max(10), move |_, mut peer| {
        let head = [raw::OK, &head].concat();
        let (trailers, was_read) = (trailers.clone(), Arc::clone(&was_read));
        async move {
            let stream = peer.read_kind(raw::HEADERS).await.unwrap().stream;
            let data = raw::frame(raw::DATA, 0, stream, b"hello");
            peer.write(&[raw::headers(0, stream, &head), data].concat())
                .await;
            was_read.notified().await;
            peer.write(&raw::headers(raw::END_STREAM, stream, &trailers))
                .await;
            peer.closed().await;
        }
    })
    .await;
    let response = pool.send(addr, request(Body::Empty)).await.unwrap();
    head_was_read.notify_one();
    response.into_body().collect().await
}

async fn end_with_trailers(head: Vec<u8>, trailers: Vec<u8>) -> BodyError {
    body_with_trailers(&pool(), head, trailers)
        .await
        .unwrap_err()
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

#[tokio::test]
async fn while_memory_is_short_no_large_trailers_are_taken() {
    let settings = Settings::default();
    let memory = Arc::clone(&settings.memory);
    let pool = Pool::new(settings);
    let (small, large) = (raw::field("x", "1"), raw::table_entry());
    for (is_short, trailers, is_taken) in [
        (false, &large, true),
        (true, &large, false),
        (true, &small, true),
    ] {
        memory.set(is_short);
        let body = body_with_trailers(&pool, Vec::new(), trailers.clone()).await;
        assert_eq!(body.is_ok(), is_taken, "{is_short}, {}", trailers.len());
    }
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
