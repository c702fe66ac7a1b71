//! How an exchange fails, and what each failure says about the request's processing.

use std::time::Duration;

use h2::Reason;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::super::testing::raw;
use super::*;
use crate::error::UpstreamError;
use crate::http::interim;

fn answer(stream: u32) -> Vec<u8> {
    raw::frame(
        raw::HEADERS,
        raw::END_STREAM | raw::END_HEADERS,
        stream,
        raw::OK,
    )
}

/// How a call fails whose server, once it has read the head, does this.
async fn failure_when(then: impl Fn(u32) -> Vec<u8> + Clone + Send + 'static) -> UpstreamError {
    let addr = raw::server(raw::streams_max(10), move |_, mut peer| {
        let then = then.clone();
        async move {
            let stream = peer.read_kind(raw::HEADERS).await.unwrap().stream;
            peer.write(&then(stream)).await;
        }
    })
    .await;
    pool().send(addr, request(Body::Empty)).await.unwrap_err()
}

#[tokio::test]
async fn a_refused_stream_is_unprocessed() {
    let error = failure_when(|stream| raw::reset(stream, Reason::REFUSED_STREAM.into())).await;
    assert!(
        matches!(error, UpstreamError::RefusedStream { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_reset_keeps_its_reason() {
    let error = failure_when(|stream| raw::reset(stream, Reason::ENHANCE_YOUR_CALM.into())).await;
    let UpstreamError::Reset { reason, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(reason, Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_stream_above_the_last_one_of_a_goaway_is_unprocessed() {
    let error = failure_when(|_| raw::goaway(0, Reason::INTERNAL_ERROR.into())).await;
    assert!(matches!(error, UpstreamError::GoAway { .. }), "{error}");
}

#[tokio::test]
async fn a_stream_that_dies_with_its_connection_may_have_been_processed() {
    let error = failure_when(|_| Vec::new()).await;
    assert!(
        matches!(error, UpstreamError::Reset { reason: None, .. }),
        "{error}"
    );
    assert!(!error.is_unprocessed());
}

#[tokio::test]
async fn a_stream_at_the_last_one_of_a_goaway_may_have_been_processed() {
    let error = failure_when(|stream| raw::goaway(stream, Reason::NO_ERROR.into())).await;
    assert!(matches!(error, UpstreamError::Reset { .. }), "{error}");
}

#[tokio::test]
async fn interim_responses_without_end_are_a_malformed_response() {
    let error = failure_when(|stream| {
        // `:status: 103`, not indexed.
        let hints = [&[0x08, 3][..], b"103"].concat();
        raw::frame(raw::HEADERS, raw::END_HEADERS, stream, &hints).repeat(interim::SEEN_MAX + 1)
    })
    .await;
    assert!(matches!(error, UpstreamError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_flooded_with_interim_responses_gets_no_further_call() {
    let addr = raw::server(raw::streams_max(10), |number, mut peer| async move {
        let stream = peer.read_kind(raw::HEADERS).await.unwrap().stream;
        if number > 0 {
            return peer.write(&answer(stream)).await;
        }
        let hints = [&[0x08, 3][..], b"103"].concat();
        let hints = raw::frame(raw::HEADERS, raw::END_HEADERS, stream, &hints);
        peer.write(&hints.repeat(interim::SEEN_MAX + 1)).await;
        // It hears nothing of what comes next.
        std::future::pending::<()>().await;
    })
    .await;
    let pool = pool();
    pool.send(addr, request(Body::Empty)).await.unwrap_err();
    let again = pool.send(addr, request(Body::Empty));
    let again = tokio::time::timeout(Duration::from_secs(5), again).await;
    assert_eq!(again.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn protocols_are_not_switched() {
    let error = failure_when(|stream| {
        let switching = [&[0x08, 3][..], b"101"].concat();
        raw::frame(raw::HEADERS, raw::END_HEADERS, stream, &switching)
    })
    .await;
    assert!(matches!(error, UpstreamError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn a_broken_frame_is_a_malformed_response() {
    let error = failure_when(|_| raw::frame(raw::DATA, 0, 0, b"on no stream")).await;
    assert!(matches!(error, UpstreamError::Malformed { .. }), "{error}");
}

/// How a call fails whose response head has a field of so many bytes.
async fn failure_of_head(status: &'static [u8], bytes: usize) -> UpstreamError {
    failure_when(move |stream| {
        let large = raw::field("large", &"x".repeat(bytes));
        raw::headers(0, stream, &[status, &large].concat())
    })
    .await
}

#[tokio::test]
async fn a_response_head_over_the_limit_is_a_malformed_response() {
    for status in [raw::OK, raw::CONTINUE] {
        let error = failure_of_head(status, 75_000).await;
        assert!(matches!(error, UpstreamError::Malformed { .. }), "{error}");
        assert!(
            error.to_string().contains("WEIR_HEADER_BYTES_MAX"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_response_head_far_over_the_limit_is_a_lost_connection_for_all_on_it() {
    let error = failure_of_head(raw::OK, 150_000).await;
    assert!(
        matches!(error, UpstreamError::Reset { reason: None, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("WEIR_HEADER_BYTES_MAX"),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_goaway_leaves_is_finished_and_what_comes_after_goes_elsewhere() {
    let addr = raw::server(raw::streams_max(10), |number, mut peer| async move {
        if number > 0 {
            let stream = peer.read_kind(raw::HEADERS).await.unwrap().stream;
            peer.write(&answer(stream)).await;
            return peer.closed().await;
        }
        let first = peer.read_kind(raw::HEADERS).await.unwrap().stream;
        let second = peer.read_kind(raw::HEADERS).await.unwrap().stream;
        assert!(second > first);
        peer.write(&raw::goaway(first, Reason::NO_ERROR.into()))
            .await;
        peer.write(&answer(first)).await;
        peer.closed().await;
    })
    .await;
    let pool = pool();
    let (one, other) = tokio::join!(
        pool.send(addr, request(Body::Empty)),
        pool.send(addr, request(Body::Empty)),
    );
    // Which of the two came first is not said.
    let (answered, promised) = if one.is_ok() {
        (one, other)
    } else {
        (other, one)
    };
    assert_eq!(answered.unwrap().status(), 200);
    assert!(matches!(promised, Err(UpstreamError::GoAway { .. })));
    let third = pool.send(addr, request(Body::Empty)).await;
    assert_eq!(third.unwrap().status(), 200);
}

#[tokio::test]
async fn a_server_that_is_not_http2_is_found_out_before_a_call_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        raw::Raw(io).closed().await;
    });
    let pool = pool();
    let error = pool.send(addr, request(Body::Empty)).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_closes_before_its_settings_was_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let pool = pool();
    let error = pool.send(addr, request(Body::Empty)).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NotSent { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_stays_silent_is_given_up() {
    let addr = raw::server(Vec::new(), |_, mut peer| async move { peer.closed().await }).await;
    let settings = Settings {
        connect_timeout: Duration::from_millis(50),
        ..Settings::default()
    };
    let error = Pool::new(settings)
        .send(addr, request(Body::Empty))
        .await
        .unwrap_err();
    assert!(
        matches!(error, UpstreamError::ConnectTimeout { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn all_who_wait_for_a_connection_learn_why_there_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let pool = pool();
    let (first, second) = tokio::join!(
        pool.send(addr, request(Body::Empty)),
        pool.send(addr, request(Body::Empty)),
    );
    for error in [first.unwrap_err(), second.unwrap_err()] {
        let UpstreamError::Connect { source, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
