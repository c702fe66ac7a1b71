//! Each violation, what must not be one, and that the verdict does not depend on how bytes are split.

use proptest::prelude::*;

use super::*;

const MAX: usize = 1024;

/// Scans `bytes` in pieces that end at `cuts`; a request for another protocol is taken to be refused.
fn verdict(bytes: &[u8], cuts: &[usize]) -> (Option<Violation>, bool, bool) {
    let mut scanner = Scanner::new(MAX);
    let mut begin = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = &bytes[begin..end];
        while !piece.is_empty() {
            match scanner.scan(piece) {
                Ok(read) => {
                    if scanner.is_undecided() {
                        scanner.go_on();
                    }
                    piece = &piece[read..];
                }
                Err(objection) => return (Some(objection.violation), false, false),
            }
        }
        begin = end;
    }
    (None, scanner.is_in_head(), scanner.is_between_messages())
}

fn violation(text: &str) -> Option<Violation> {
    verdict(text.as_bytes(), &[]).0
}

#[test]
fn messages_with_one_meaning_pass() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [2001:db8::7]:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: my_shop.test:8080\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\na\nb",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-length:0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  Chunked \r\n\r\n3\r\na\n\n\r\n0A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n3\t;x\r\nabc\r\n0\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(
            verdict(text.as_bytes(), &[]),
            (None, false, true),
            "{text:?}"
        );
    }
}

#[test]
fn each_violation_is_found() {
    let long = "x".repeat(MAX);
    for (text, expected) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Violation::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Violation::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Violation::BareLineFeed),
        ("\nGET / HTTP/1.1\r\n\r\n", Violation::BareLineFeed),
        (
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            Violation::FoldedField,
        ),
        ("GET / HTTP/1.1\r\n A: b\r\n\r\n", Violation::FoldedField),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Violation::Syntax),
        ("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", Violation::Syntax),
        (
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            Violation::LengthAndCoding,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            Violation::LengthAndCoding,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            Violation::ContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n",
            Violation::ContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n",
            Violation::ContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\n",
            Violation::ContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
            Violation::ContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            Violation::ContentLength,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            Violation::TransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Violation::TransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            Violation::TransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Violation::TransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n",
            Violation::TransferEncoding,
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Violation::TransferEncoding,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            Violation::SeveralHosts,
        ),
        ("GET / HTTP/1.1\r\n\r\n", Violation::NoHost),
        ("GET http://a/ HTTP/1.1\r\nA: b\r\n\r\n", Violation::NoHost),
        ("CONNECT a:1 HTTP/1.1\r\n\r\n", Violation::NoHost),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            Violation::NoHost,
        ),
        ("GET / HTTP/2.0\r\n\r\n", Violation::Syntax),
        ("GET /\r\n\r\n", Violation::Syntax),
        (
            &format!("GET /{long} HTTP/1.1\r\n\r\n"),
            Violation::HeadTooLarge,
        ),
        (
            &format!("GET / HTTP/1.1\r\nA: {long}"),
            Violation::HeadTooLarge,
        ),
        (
            &format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(MAX / 6)),
            Violation::HeadTooLarge,
        ),
    ] {
        assert_eq!(violation(text), Some(expected), "{text:?}");
    }
}

#[test]
fn a_host_that_cannot_be_one_is_found() {
    for host in ["a b", "a/b", "a@b", "a?b", "\u{e9}"] {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let text = format!("GET / {version}\r\nHost: {host}\r\n\r\n");
            assert_eq!(violation(&text), Some(Violation::InvalidHost), "{text}");
        }
    }
}

#[test]
fn each_violation_in_a_chunked_body_is_found() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = "x".repeat(MAX);
    for (body, expected) in [
        ("3\nabc\r\n0\r\n\r\n", Violation::BareLineFeed),
        ("\r\n", Violation::ChunkSize),
        ("x\r\n", Violation::ChunkSize),
        ("0x3\r\n", Violation::ChunkSize),
        ("-3\r\n", Violation::ChunkSize),
        (" 3\r\n", Violation::ChunkSize),
        ("3 3\r\n", Violation::ChunkSize),
        ("3;a\rb\r\nabc\r\n", Violation::ChunkSize),
        ("fffffffffffffffff\r\n", Violation::ChunkSize),
        (&format!("3;{long}"), Violation::ChunkSize),
        ("3\r\nabcd", Violation::ChunkEnd),
        ("3\r\nabcd\r\n", Violation::ChunkEnd),
        ("3\r\nabc\n", Violation::BareLineFeed),
        ("0\r\nA: b\n\r\n", Violation::BareLineFeed),
        ("0\r\nA : b\r\n\r\n", Violation::Syntax),
        ("0\r\nA: b\r\n c\r\n\r\n", Violation::FoldedField),
        (&format!("0\r\nA: {long}"), Violation::HeadTooLarge),
    ] {
        let found = violation(&format!("{head}{body}"));
        // What is no chunk end yet may still be waited for.
        let expected = (body != "3\r\nabcd").then_some(expected);
        assert_eq!(found, expected, "{body:?}");
    }
}

#[test]
fn it_stops_behind_a_request_for_another_protocol() {
    for head in [
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n",
    ] {
        let mut scanner = Scanner::new(MAX);
        let bytes = format!("{head}\n\n\n");
        assert_eq!(scanner.scan(bytes.as_bytes()), Ok(head.len()));
        assert!(scanner.is_undecided());
    }
    let mut scanner = Scanner::new(MAX);
    let ignored_in_http10 = b"GET / HTTP/1.0\r\nUpgrade: x\r\n\r\n";
    assert_eq!(scanner.scan(ignored_in_http10), Ok(ignored_in_http10.len()));
    assert!(!scanner.is_undecided());
}

/// Pieces that make messages, nearly messages, and nonsense.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("GET / HTTP/1.1\r\n"),
        Just("POST /x HTTP/1.1\r\n"),
        Just("GET / HTTP/1.0\r\n"),
        Just("CONNECT a:1 HTTP/1.1\r\n"),
        Just("Host: a\r\n"),
        Just("Content-Length: 5\r\n"),
        Just("Content-Length: 12\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("Upgrade: websocket\r\n"),
        Just("A: b\r\n"),
        Just(" folded\r\n"),
        Just("\r\n"),
        Just("\r\n"),
        Just("hello"),
        Just("5\r\nhello\r\n"),
        Just("0\r\n"),
        Just("A;ext=1\r\n0123456789\r\n"),
        Just("\n"),
        Just("\r"),
        Just(":"),
        Just("\0"),
    ];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_verdict_does_not_depend_on_how_bytes_are_split(
        bytes in pieces(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let every_byte: Vec<usize> = (0..bytes.len()).collect();
        let whole = verdict(&bytes, &[]);
        prop_assert_eq!(whole, verdict(&bytes, &cuts));
        prop_assert_eq!(whole, verdict(&bytes, &every_byte));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _whatever = verdict(&bytes, &[]);
    }
}
