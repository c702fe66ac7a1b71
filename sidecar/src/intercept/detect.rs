//! Tells from an application's first bytes which protocol a connection speaks.
//!
//! [`classify`] is pure and looks at everything that was read so far. It is monotone: once it has an answer, more bytes
//! do not change it, so the answer does not depend on how the bytes were split on their way. [`race`] reads the bytes
//! and gives servers that speak first their chance; its answer goes to [`connection`](crate::connection).

use self::client_hello::{Sni, server_name};

mod client_hello;
pub mod prefixed;
pub mod race;
pub mod remembered;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A prefix of more than one protocol.
    NeedMore,
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS handshake.
    Tls {
        /// The server's name (RFC 6066 §3), lower case, where the client sent one that is a host name.
        sni: Option<Box<str>>,
    },
    /// None of these.
    Opaque,
}

/// What the first bytes of a connection are, as far as `bytes` tell.
///
/// Looks at no more than [`LOOK_BYTES_MAX`] bytes, and answers [`Verdict::NeedMore`] only below that.
#[must_use]
pub fn classify(bytes: &[u8]) -> Verdict {
    let looked_at = bytes.get(..LOOK_BYTES_MAX).unwrap_or(bytes);
    let verdict = match looked_at.first() {
        None => Verdict::NeedMore,
        Some(&client_hello::HANDSHAKE) => tls(looked_at),
        Some(_) => text(looked_at),
    };
    if verdict == Verdict::NeedMore && looked_at.len() == LOOK_BYTES_MAX {
        return if has_begun_tls(bytes) {
            Verdict::Tls { sni: None }
        } else {
            Verdict::Opaque
        };
    }
    verdict
}

/// Whether bytes that need more are the beginning of TLS. A slow or huge `ClientHello` still is, only without a name.
#[must_use]
pub fn has_begun_tls(bytes: &[u8]) -> bool {
    bytes.starts_with(&[client_hello::HANDSHAKE, client_hello::MAJOR_VERSION])
}

fn tls(bytes: &[u8]) -> Verdict {
    match server_name(bytes) {
        Sni::NeedMore => Verdict::NeedMore,
        Sni::NotTls => Verdict::Opaque,
        Sni::Known(sni) => Verdict::Tls { sni },
    }
}

fn text(bytes: &[u8]) -> Verdict {
    // The rest of the preface is the HTTP/2 library's to check: no other protocol starts like this.
    match compare(bytes, HTTP2_PREFACE_START) {
        Compared::Equal(_) => Verdict::Http2,
        Compared::Prefix => Verdict::NeedMore,
        Compared::Different => request_line(bytes),
    }
}

/// Tells an HTTP/1 request line (RFC 9112 §3) from other text protocols, whose lines look alike up to the version.
///
/// Redis (`GET /key`), NATS (`CONNECT {..}`), SMTP, IRC and RTSP (`OPTIONS * RTSP/1.0`) all start with a word that could
/// be a method, so only the version decides. A line without one is HTTP/0.9, and forwarded as it is.
fn request_line(bytes: &[u8]) -> Verdict {
    // RFC 9112 §2.2: a server should ignore an empty line before the request line.
    let line = match compare(bytes, b"\r\n") {
        Compared::Equal(rest) => rest,
        Compared::Prefix => return Verdict::NeedMore,
        Compared::Different => bytes,
    };
    let Some(method_length) = line.iter().position(|byte| !is_method_byte(*byte)) else {
        return if line.len() > METHOD_BYTES_MAX || !may_be_method(line) {
            Verdict::Opaque
        } else {
            Verdict::NeedMore
        };
    };
    let Some((method, [b' ', target @ ..])) = line.split_at_checked(method_length) else {
        return Verdict::Opaque;
    };
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !may_be_method(method) {
        return Verdict::Opaque;
    }
    if !target.first().is_none_or(|first| is_target_start(*first)) {
        return Verdict::Opaque;
    }
    let Some(target_length) = target.iter().position(|byte| !is_target_byte(*byte)) else {
        return if target.len() >= TARGET_BYTES_CONVINCING {
            Verdict::Http1
        } else {
            Verdict::NeedMore
        };
    };
    if target_length >= TARGET_BYTES_CONVINCING {
        return Verdict::Http1;
    }
    match target.split_at_checked(target_length) {
        Some((_, [b' ', version @ ..])) => match compare(version, HTTP1_VERSION_START) {
            Compared::Equal(_) => Verdict::Http1,
            Compared::Prefix => Verdict::NeedMore,
            Compared::Different => Verdict::Opaque,
        },
        _ => Verdict::Opaque,
    }
}

/// How bytes that may not all be here compare with the start that is looked for.
enum Compared<'a> {
    /// They start with it; the rest.
    Equal(&'a [u8]),
    /// All of them are its beginning.
    Prefix,
    /// They differ.
    Different,
}

fn compare<'a>(bytes: &'a [u8], start: &[u8]) -> Compared<'a> {
    match bytes.strip_prefix(start) {
        Some(rest) => Compared::Equal(rest),
        None if start.starts_with(bytes) => Compared::Prefix,
        None => Compared::Different,
    }
}

/// Methods are tokens (RFC 9110 §9.1, §5.6.2).
fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a word may be a method, or the beginning of one: any in upper case, and the registered ones in lower case too.
///
/// Whoever sends `patch` for `PATCH` speaks HTTP, and whether the server takes it is the server's affair. Other words in
/// lower case belong to protocols whose clients may wait behind them (`ruok`), and are not waited for.
fn may_be_method(word: &[u8]) -> bool {
    let begins = |method: &&[u8]| {
        let start = method.get(..word.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    !word.iter().any(u8::is_ascii_lowercase) || METHODS.iter().any(begins)
}

/// Origin-form, asterisk-form, or the start of a scheme, a host name or an address (RFC 9112 §3.2).
fn is_target_start(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'*' | b'[' | b'_')
}

/// Anything but controls and spaces: clients send raw UTF-8 too, and whether to take it is not decided here.
fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

/// Most bytes that are looked at, in bytes: a `ClientHello` with post-quantum key shares takes about 2 KiB, and one
/// longer than a TLS record (RFC 8446 §5.1) is forwarded without its server's name.
pub const LOOK_BYTES_MAX: usize = 16 * 1024;
/// The longest registered method has 17 letters (`UPDATEREDIRECTREF`).
const METHOD_BYTES_MAX: usize = 24;
/// Of RFC 9110 §9.3 and RFC 5789.
const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE",
];
/// A target this long after a method is HTTP, although its version has not come yet.
const TARGET_BYTES_CONVINCING: usize = 4 * 1024;
/// Of RFC 9113 §3.4.
const HTTP2_PREFACE_START: &[u8] = b"PRI * HTTP/2.0\r\n";
const HTTP1_VERSION_START: &[u8] = b"HTTP/1.";

#[cfg(test)]
pub(crate) mod tests;
