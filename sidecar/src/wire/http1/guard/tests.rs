//! What passes the guard, byte for byte, and how it treats ends, silence and undecided bytes.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::half_closed::UNKNOWN_MAX;
use super::*;
use crate::intercept::client_end::Ends;

static COUNTED: Violations = Violations::new();

fn guarded(buffer: usize) -> (DuplexStream, Guard<DuplexStream>, Arc<Link>) {
    let (app, ours) = tokio::io::duplex(buffer);
    let link = Arc::new(Link::default());
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let client = Ends::default().of(nowhere, nowhere);
    let guard = Guard::new(ours, client, 4096, Arc::clone(&link), &COUNTED);
    (app, guard, link)
}

/// All that comes out of a guard for what is sent in pieces, until the application has closed.
async fn passed(pieces: Vec<Vec<u8>>, read_size: usize) -> Vec<u8> {
    let (mut app, mut guard, _link) = guarded(1 << 16);
    let mut out = Vec::new();
    for piece in pieces {
        app.write_all(&piece).await.unwrap();
        let mut read = vec![0; read_size];
        let mut rest = piece.len();
        while rest > 0 {
            let count = guard.read(&mut read).await.unwrap();
            out.extend_from_slice(&read[..count]);
            if count == 0 {
                return out;
            }
            rest = rest.saturating_sub(count);
        }
    }
    drop(app);
    guard.read_to_end(&mut out).await.unwrap();
    out
}

fn messages() -> impl Strategy<Value = Vec<u8>> {
    let message = prop_oneof![
        Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        "[a-z\n\r]{0,40}".prop_map(|body| format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )),
        prop::collection::vec("[a-z\n\r]{1,20}", 0..4).prop_map(|chunks| {
            let mut text =
                "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            for chunk in chunks {
                text = format!("{text}{:x};e\r\n{chunk}\r\n", chunk.len());
            }
            text + "0\r\nX-Sum: 1\r\n\r\n"
        }),
    ];
    prop::collection::vec(message, 1..4).prop_map(|messages| messages.concat().into_bytes())
}

fn split(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let ends = cuts.iter().copied().chain([bytes.len()]);
    let begins = [0].into_iter().chain(cuts.iter().copied());
    begins
        .zip(ends)
        .map(|(begin, end)| bytes[begin..end].to_vec())
        .collect()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn valid_messages_pass_unchanged(
        bytes in messages(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        read_size in 1_usize..100,
    ) {
        let out = block_on(passed(split(&bytes, &cuts), read_size));
        prop_assert_eq!(out, bytes);
    }

    #[test]
    fn of_invalid_messages_only_what_came_before_passes(
        bytes in messages(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        read_size in 1_usize..100,
    ) {
        let valid = bytes.len();
        let mut bytes = bytes;
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\nTe: b\nX\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        let out = block_on(passed(split(&bytes, &cuts), read_size));
        prop_assert!(out.ends_with(POISON));
        let before = &out[..out.len() - POISON.len()];
        prop_assert!(bytes.starts_with(before));
        // The line with the violation does not come to its end.
        prop_assert!(before.len() >= valid && before.len() < valid + 22);
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn an_unfinished_head_ends_the_connection_after_its_time() {
    let (mut app, mut guard, link) = guarded(1024);
    let mut read = [0; 64];
    app.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(guard.read(&mut read).await.unwrap(), 16);
    let begun = Instant::now();
    let slow_writes = async {
        for _ in 0..10 {
            tokio::time::sleep(HEAD_TIMEOUT / 10).await;
            app.write_all(b"A").await.unwrap();
        }
    };
    let reads = async { while guard.read(&mut read).await.unwrap() > 0 {} };
    tokio::join!(slow_writes, reads);
    assert_eq!(begun.elapsed().as_secs(), HEAD_TIMEOUT.as_secs());
    assert!(link.is_refused());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_and_a_slow_body_may_take_their_time() {
    let (mut app, mut guard, _link) = guarded(1024);
    let mut read = [0; 64];
    for bytes in [
        GET,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
        b"a",
        b"b",
    ] {
        let silence = tokio::time::timeout(HEAD_TIMEOUT * 10, guard.read(&mut read)).await;
        assert!(silence.is_err());
        app.write_all(bytes).await.unwrap();
        assert_eq!(guard.read(&mut read).await.unwrap(), bytes.len());
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_be_asked_an_end_of_stream_right_behind_the_request_waits_for_the_response()
 {
    let (mut app, mut guard, link) = guarded(1024);
    let mut read = [0; 64];
    app.write_all(GET).await.unwrap();
    assert_eq!(guard.read(&mut read).await.unwrap(), GET.len());
    link.begin();
    app.shutdown().await.unwrap();
    let early = tokio::time::timeout(UNKNOWN_MAX / 2, guard.read(&mut read)).await;
    assert!(early.is_err());
    let response = async { link.end() };
    let (count, ()) = tokio::join!(guard.read(&mut read), response);
    assert_eq!(count.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_does_not_begin_is_not_waited_for_without_end() {
    for answered in [false, true] {
        let (mut app, mut guard, link) = guarded(1024);
        let mut read = [0; 64];
        app.write_all(GET).await.unwrap();
        assert_eq!(guard.read(&mut read).await.unwrap(), GET.len());
        link.begin();
        app.shutdown().await.unwrap();
        let early = tokio::time::timeout(UNKNOWN_MAX / 2, guard.read(&mut read)).await;
        assert!(early.is_err());
        if answered {
            guard.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        }
        let late = tokio::time::timeout(UNKNOWN_MAX, guard.read(&mut read)).await;
        assert_eq!(late.is_err(), answered);
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_be_asked_an_end_of_stream_later_than_that_passes_at_once() {
    let (mut app, mut guard, link) = guarded(1024);
    let mut read = [0; 64];
    app.write_all(GET).await.unwrap();
    assert_eq!(guard.read(&mut read).await.unwrap(), GET.len());
    link.begin();
    tokio::time::advance(HALF_CLOSE_DELAY_MAX).await;
    app.shutdown().await.unwrap();
    assert_eq!(guard.read(&mut read).await.unwrap(), 0);
}

const CONNECT: &[u8] = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn bytes_behind_a_connect_are_judged_only_if_it_is_refused() {
    for is_granted in [true, false] {
        let (mut app, mut guard, link) = guarded(1024);
        let mut read = [0; 64];
        app.write_all(&[CONNECT, b"\n\n\n"].concat()).await.unwrap();
        assert_eq!(guard.read(&mut read).await.unwrap(), CONNECT.len());
        link.begin();
        let early = tokio::time::timeout(Duration::from_mins(1), guard.read(&mut read)).await;
        assert!(early.is_err());
        if is_granted {
            link.become_tunnel();
            link.end();
            assert_eq!(guard.read(&mut read).await.unwrap(), 3);
            assert_eq!(&read[..3], b"\n\n\n");
            app.write_all(b"\n").await.unwrap();
            assert_eq!(guard.read(&mut read).await.unwrap(), 1);
        } else {
            link.end();
            let count = guard.read(&mut read).await.unwrap();
            assert_eq!(&read[..count], POISON);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn early_tunnel_bytes_are_handed_over_with_the_connection() {
    let (mut app, mut guard, link) = guarded(1024);
    let mut read = [0; 64];
    app.write_all(CONNECT).await.unwrap();
    assert_eq!(guard.read(&mut read).await.unwrap(), CONNECT.len());
    link.begin();
    app.write_all(b"early").await.unwrap();
    let early = tokio::time::timeout(Duration::from_secs(1), guard.read(&mut read)).await;
    assert!(early.is_err());
    link.become_tunnel();
    assert_eq!(guard.into_inner().1, "early");
}
