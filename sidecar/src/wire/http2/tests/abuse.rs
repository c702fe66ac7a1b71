//! Floods and frames against the protocol end their connection, and nothing else.

use h2::Reason;

use super::*;

/// Sends `bytes` again and again until the connection ends; the reason of its GOAWAY.
async fn flood(bytes: Vec<u8>) -> Option<u32> {
    let server = empty().await;
    let Served { io, task, .. } = served(server.addr);
    let (reader, mut writer) = tokio::io::split(io);
    let writing = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let hello = [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            &raw::frame(raw::SETTINGS, 0, 0, &[]),
        ]
        .concat();
        writer.write_all(&hello).await.unwrap();
        while writer.write_all(&bytes).await.is_ok() {}
    });
    let mut reading = Raw(tokio::io::join(reader, tokio::io::sink()));
    let code = reading
        .read_kind(raw::GOAWAY)
        .await
        .map(|goaway| goaway.code());
    task.await.unwrap();
    drop(reading);
    writing.await.unwrap();
    code
}

#[tokio::test]
async fn a_ping_flood_ends_the_connection() {
    let before = VIOLATIONS.get(Violation::Flood);
    assert_eq!(
        flood(raw::frame(raw::PING, 0, 0, &[0; 8]).repeat(100)).await,
        Some(CALM)
    );
    assert!(VIOLATIONS.get(Violation::Flood) > before);
}

#[tokio::test]
async fn a_settings_flood_ends_the_connection() {
    assert_eq!(
        flood(raw::frame(raw::SETTINGS, 0, 0, &[]).repeat(100)).await,
        Some(CALM)
    );
}

#[tokio::test]
async fn a_priority_flood_ends_the_connection() {
    assert_eq!(
        flood(raw::frame(raw::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(100)).await,
        Some(CALM)
    );
}

#[tokio::test]
async fn a_flood_of_unknown_frames_ends_the_connection() {
    assert_eq!(
        flood(raw::frame(0xFA, 0, 0, &[]).repeat(100)).await,
        Some(CALM)
    );
}

#[tokio::test]
async fn a_continuation_flood_ends_the_connection() {
    let mut frames = raw::frame(raw::HEADERS, 0, 1, raw::GET);
    for _ in 0..100 {
        frames.extend(raw::frame(raw::CONTINUATION, 0, 1, &raw::field("a", "b")));
    }
    let (answer, served) = answer_to(&frames).await;
    assert_eq!(
        answer.map(|frame| (frame.kind, frame.code())),
        Some((raw::GOAWAY, CALM))
    );
    served.task.await.unwrap();
}

#[tokio::test]
async fn empty_data_frames_end_the_connection() {
    let mut frames = raw::frame(raw::HEADERS, raw::END_HEADERS, 1, raw::GET);
    frames.extend(raw::frame(raw::DATA, 0, 1, &[]).repeat(1000));
    let (answer, served) = answer_to(&frames).await;
    assert_eq!(
        answer.map(|frame| (frame.kind, frame.code())),
        Some((raw::GOAWAY, CALM))
    );
    served.task.await.unwrap();
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_no_other() {
    let server = empty().await;
    let Served { io, task, .. } = served(server.addr);
    let mut other = client(server.addr).await;
    let mut app = Raw::client(io).await;
    for number in 0..2000 {
        let stream = 1 + 2 * number;
        let mut frames = raw::frame(raw::HEADERS, raw::END_HEADERS, stream, raw::GET);
        frames.extend(raw::reset(stream, Reason::CANCEL.into()));
        app.write(&frames).await;
        // Each is looked at before the next comes: the crate's own bound is on those that were not.
        tokio::task::yield_now().await;
    }
    let goaway = app.read_kind(raw::GOAWAY).await.unwrap();
    assert_eq!(goaway.code(), CALM);
    task.await.unwrap();
    assert_eq!(other.get().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_malformed_message_is_reset_and_its_connection_lives_on() {
    let before = VIOLATIONS.get(Violation::Message);
    let block = [raw::GET, &raw::field("connection", "close")].concat();
    let (answer, mut served) = answer_to(&raw::frame(raw::HEADERS, 5, 1, &block)).await;
    let answer = answer.unwrap();
    assert_eq!((answer.kind, answer.code()), (raw::RST_STREAM, 1));
    assert!(VIOLATIONS.get(Violation::Message) > before);
    served.assert_lives_on().await;
}

#[tokio::test]
async fn a_broken_frame_ends_the_connection() {
    let before = VIOLATIONS.get(Violation::Frame);
    let (answer, served) = answer_to(&raw::frame(raw::DATA, 0, 0, b"on no stream")).await;
    assert_eq!(
        answer.map(|frame| (frame.kind, frame.code())),
        Some((raw::GOAWAY, 1))
    );
    served.task.await.unwrap();
    assert!(VIOLATIONS.get(Violation::Frame) > before);
}

#[tokio::test]
async fn a_client_whose_first_frame_is_not_settings_is_turned_away() {
    let server = empty().await;
    let Served { io, task, .. } = served(server.addr);
    let mut app = Raw(io);
    app.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    app.write(&raw::frame(raw::PING, 0, 0, &[0; 8])).await;
    assert_eq!(app.read_kind(raw::GOAWAY).await.unwrap().code(), 1);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_sends_its_settings_is_turned_away() {
    let Served { io, task, .. } = served("127.0.0.1:1".parse().unwrap());
    let mut app = Raw(io);
    app.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(app.read_kind(raw::GOAWAY).await.unwrap().code(), 4);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_preface_is_turned_away() {
    let Served { io, task, .. } = served("127.0.0.1:1".parse().unwrap());
    let mut app = Raw(io);
    app.write(b"PRI * HTTP/2.0").await;
    task.await.unwrap();
    app.closed().await;
}

#[tokio::test]
async fn round_trips_measured_while_data_flows_are_no_flood() {
    let server = Server::start(echo).await;
    let Served { io, .. } = served(server.addr);
    let mut app = Raw::client(io).await;
    for number in 0..3_000 {
        let stream = 1 + 2 * number;
        app.write(&raw::frame(raw::HEADERS, 5, stream, raw::GET))
            .await;
        for _ in 0..10 {
            app.write(&raw::frame(raw::PING, 0, 0, &[0; 8])).await;
            assert_eq!(app.read_kind(raw::PING).await.unwrap().flags, raw::ACK);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_without_calls_is_kept() {
    let Served { io, task, .. } = served("127.0.0.1:1".parse().unwrap());
    let mut app = Raw::client(io).await;
    app.read_kind(raw::SETTINGS).await.unwrap();
    tokio::time::advance(Duration::from_hours(1)).await;
    app.write(&raw::frame(raw::PING, 0, 0, &[7; 8])).await;
    assert_eq!(app.read_kind(raw::PING).await.unwrap().payload, [7; 8]);
    assert!(!task.is_finished());
}
