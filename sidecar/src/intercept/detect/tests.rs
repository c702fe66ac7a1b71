use proptest::prelude::*;

use super::*;

/// A `ClientHello` for `host`, in records of at most `record_bytes` each.
pub(crate) fn client_hello(host: Option<&str>, record_bytes: usize) -> Vec<u8> {
    let mut extensions = vec![0x00, 0x17, 0, 0];
    if let Some(host) = host {
        let length = host.len();
        let field = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
        extensions.extend([0, 0]);
        extensions.extend(field(length + 5));
        extensions.extend(field(length + 3));
        extensions.push(0);
        extensions.extend(field(length));
        extensions.extend(host.as_bytes());
    }
    let mut hello = vec![3, 3];
    hello.extend([9; 32]);
    hello.extend([2, 8, 8]);
    hello.extend([0, 4, 0x13, 0x01, 0x13, 0x02]);
    hello.extend([1, 0]);
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let mut handshake = vec![1, 0];
    handshake.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
    handshake.extend(hello);
    let records = handshake.chunks(record_bytes).map(|part| {
        let mut record = vec![22, 3, 1];
        record.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        record.extend(part);
        record
    });
    records.flatten().collect()
}

fn tls(sni: &str) -> Verdict {
    Verdict::Tls {
        sni: Some(sni.into()),
    }
}

/// The first answer that is not "more", given byte after byte.
fn byte_by_byte(bytes: &[u8]) -> Verdict {
    let prefixes = (1..=bytes.len()).map(|length| classify(&bytes[..length]));
    let mut answers = prefixes.filter(|verdict| *verdict != Verdict::NeedMore);
    answers.next().unwrap_or(Verdict::NeedMore)
}

#[test]
fn http1_is_told_by_its_request_line() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "POST /a?b=c HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT shop:443 HTTP/1.1\r\n",
        "CONNECT [::1]:443 HTTP/1.1\r\n",
        "GET http://shop/ HTTP/1.1\r\n",
        "M-SEARCH * HTTP/1.1\r\n",
        "UPDATEREDIRECTREF /x HTTP/1.1\r\n",
        "PRI * HTTP/1.1\r\n",
        "patch /x HTTP/1.1\r\n",
        "X!#$%&'*+-.^_`|~ /x HTTP/1.1\r\n",
        "GET /caf\u{e9} HTTP/1.1\r\n",
        "\r\nGET / HTTP/1.1\r\n",
    ] {
        assert_eq!(byte_by_byte(line.as_bytes()), Verdict::Http1, "{line:?}");
    }
}

#[test]
fn a_long_target_is_http1_before_its_version_has_come() {
    let line = format!("GET /{}", "a".repeat(TARGET_BYTES_CONVINCING));
    assert_eq!(byte_by_byte(line.as_bytes()), Verdict::Http1);
}

#[test]
fn http2_is_told_by_the_first_line_of_its_preface() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(byte_by_byte(preface), Verdict::Http2);
    assert_eq!(classify(&preface[..15]), Verdict::NeedMore);
}

#[test]
fn other_protocols_are_opaque_as_soon_as_they_differ() {
    for bytes in [
        &b"EHLO mail.example\r\n"[..],
        b"PING\r\n",
        b"GET /key\r\n",
        b"SET /a b\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"get foo\r\n",
        b"set foo 0 0 5\r\n",
        b"ruok",
        b"auth x",
        b"<A> / HTTP/1.1\r\n",
        b"CONNECT {\"verbose\":false}\r\n",
        b"OPTIONS * RTSP/1.0\r\n",
        b"DESCRIBE rtsp://cam/1 RTSP/1.0\r\n",
        b"INVITE sip:bob@example SIP/2.0\r\n",
        b"NICK joe\r\n",
        b"USER joe 0 * :Joe\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET /\x00 HTTP/1.1\r\n",
        b"GET / HTTP/2.0\r\n",
        b"PRI * HTTP/3.0\r\n",
        b" GET / HTTP/1.1\r\n",
        b"\r\n\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\x16\x04\x00\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x80\x2e\x01\x00\x02",
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(byte_by_byte(bytes), Verdict::Opaque, "{text:?}");
    }
}

#[test]
fn a_beginning_of_several_protocols_needs_more() {
    for bytes in [
        &b""[..],
        b"G",
        b"GET",
        b"GET ",
        b"GET /a",
        b"GET / ",
        b"GET / HTTP",
        b"PRI * HTTP/",
        b"\r",
        b"\x16\x03",
        b"\x16\x03\x01\x02\x00\x01",
    ] {
        assert_eq!(classify(bytes), Verdict::NeedMore, "{bytes:?}");
    }
}

#[test]
fn a_client_hello_gives_its_server_name_in_lower_case() {
    let hello = client_hello(Some("Shop.Example"), 16_384);
    assert_eq!(byte_by_byte(&hello), tls("shop.example"));
}

#[test]
fn a_client_hello_may_be_cut_into_many_records() {
    for record_bytes in [1, 2, 5, 50] {
        let hello = client_hello(Some("shop.example"), record_bytes);
        assert_eq!(byte_by_byte(&hello), tls("shop.example"), "{record_bytes}");
    }
}

#[test]
fn a_client_hello_without_a_usable_name_is_still_tls() {
    let long = "a".repeat(300);
    for host in [None, Some(""), Some("a b"), Some("a\u{0}"), Some(&*long)] {
        let hello = client_hello(host, 16_384);
        assert_eq!(byte_by_byte(&hello), Verdict::Tls { sni: None }, "{host:?}");
    }
}

#[test]
fn a_client_hello_that_lies_about_its_lengths_is_still_tls() {
    let honest = client_hello(Some("shop.example"), 16_384);
    for position in 5..honest.len() {
        let mut lying = honest.clone();
        lying[position] = 0xff;
        lying.resize(LOOK_BYTES_MAX, 0);
        let verdict = byte_by_byte(&lying);
        // Byte 5 is the handshake's type.
        assert_eq!(
            matches!(verdict, Verdict::Tls { .. }),
            position != 5,
            "{position}"
        );
    }
}

#[test]
fn a_beginning_of_tls_is_told_from_other_beginnings() {
    assert!(has_begun_tls(b"\x16\x03\x01"));
    assert!(!has_begun_tls(b"\x16"));
    assert!(!has_begun_tls(b"GET / HT"));
}

/// Bytes that come near the protocols we know, and bytes that come near nothing.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let known = prop_oneof![
        Just(b"GET /index.html HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        Just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        (1_usize..200).prop_map(|record| client_hello(Some("shop.example"), record)),
        Just(b"CONNECT a:1 HTTP/1.0\r\n\r\n".to_vec()),
    ];
    let mutated = (known, any::<prop::sample::Index>(), any::<Option<u8>>()).prop_map(
        |(mut bytes, index, change)| {
            if let Some(change) = change {
                let position = index.index(bytes.len());
                bytes[position] = change;
            }
            bytes
        },
    );
    prop_oneof![mutated, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn an_answer_does_not_change_with_more_bytes(bytes in any_bytes()) {
        let mut answer = Verdict::NeedMore;
        for length in 0..=bytes.len() {
            let verdict = classify(&bytes[..length]);
            if answer != Verdict::NeedMore {
                prop_assert_eq!(&verdict, &answer);
            }
            answer = verdict;
        }
    }

    #[test]
    fn enough_bytes_always_bring_an_answer(mut bytes in any_bytes(), filler: u8) {
        bytes.resize(LOOK_BYTES_MAX, filler);
        prop_assert_ne!(classify(&bytes), Verdict::NeedMore);
    }
}
