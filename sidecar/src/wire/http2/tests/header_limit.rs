//! Heads and trailers over the limit: refused alone, with their connection where they are abuse, and never shortened.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[tokio::test]
async fn an_oversized_header_section_is_answered_with_431() {
    let before = VIOLATIONS.get(Violation::HeaderLimit);
    let mut block = raw::GET.to_vec();
    for part in 0..6 {
        block.extend(raw::field(&format!("large-{part}"), &"x".repeat(12_000)));
    }
    let frames = raw::headers(raw::END_STREAM, 1, &block);
    let (answer, mut served) = answer_to(&frames).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.kind, answer.flags),
        (raw::HEADERS, raw::END_STREAM | raw::END_HEADERS)
    );
    assert!(VIOLATIONS.get(Violation::HeaderLimit) > before);
    served.assert_lives_on().await;
}

#[tokio::test]
async fn a_header_section_far_over_its_bound_ends_the_connection() {
    let before = VIOLATIONS.get(Violation::HeaderLimit);
    // Named once, and repeated by index: a header bomb.
    let mut block = raw::GET.to_vec();
    block.push(0x40);
    block.extend(&raw::field("bomb", &"x".repeat(3_900))[1..]);
    block.extend([0xBE].repeat(400));
    let (answer, served) = answer_to(&raw::headers(raw::END_STREAM, 1, &block)).await;
    assert_eq!(
        answer.map(|frame| (frame.kind, frame.code())),
        Some((raw::GOAWAY, CALM))
    );
    served.task.await.unwrap();
    assert!(VIOLATIONS.get(Violation::HeaderLimit) > before);
}

#[tokio::test]
async fn a_path_that_http_cannot_hold_resets_its_stream() {
    let block = [&[0x82, 0x86], &*raw::path(9_000)].concat();
    let (answer, mut served) = answer_to(&raw::headers(raw::END_STREAM, 1, &block)).await;
    let answer = answer.unwrap();
    assert_eq!((answer.kind, answer.code()), (raw::RST_STREAM, 1));
    served.assert_lives_on().await;
}

/// A request whose trailers are this block, with these fields in its head.
fn with_trailers(stream: u32, head: &[u8], trailers: &[u8]) -> Vec<u8> {
    [
        raw::headers(0, stream, &[raw::GET, head].concat()),
        raw::frame(raw::DATA, 0, stream, b"hello"),
        raw::headers(raw::END_STREAM, stream, trailers),
    ]
    .concat()
}

/// A server that answers only what it has read whole, and counts that.
async fn patient() -> (Server, Arc<AtomicUsize>) {
    let wholes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&wholes);
    let server = Server::start(
        move |request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let count = Arc::clone(&count);
            async move {
                if read(&mut request.into_body()).await.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _the_call_may_be_gone =
                        respond.send_response(http::Response::new(()), true);
                }
            }
        },
    )
    .await;
    (server, wholes)
}

#[tokio::test]
async fn trailers_over_the_limit_are_no_end_of_a_request() {
    for raw::Oversized {
        what,
        head,
        trailers,
    } in raw::oversized_trailers()
    {
        let (server, wholes) = patient().await;
        let Served {
            io, task: _task, ..
        } = served(server.addr);
        let mut app = Raw::client(io).await;
        app.write(&with_trailers(1, &head, &trailers)).await;
        let answer = app.read_kind(raw::HEADERS).await.expect(what);
        // RFC 7541, appendix A: :status 400.
        assert_eq!((answer.stream, answer.payload[0]), (1, 0x8C), "{what}");
        app.write(&with_trailers(3, &[], &raw::field("x-sum", "1")))
            .await;
        let answer = app.read_kind(raw::HEADERS).await.expect(what);
        assert_eq!((answer.stream, answer.payload[0]), (3, 0x88), "{what}");
        assert_eq!(wholes.load(Ordering::SeqCst), 1, "{what}");
    }
}

#[tokio::test]
async fn trailers_far_over_the_limit_end_the_connection() {
    let (server, wholes) = patient().await;
    let Served { io, task, .. } = served(server.addr);
    let mut app = Raw::client(io).await;
    let trailers = raw::field("x", &"x".repeat(120_000));
    app.write(&with_trailers(1, &[], &trailers)).await;
    let goaway = app.read_kind(raw::GOAWAY).await.unwrap();
    assert_eq!(goaway.code(), CALM);
    task.await.unwrap();
    assert_eq!(wholes.load(Ordering::SeqCst), 0);
}
