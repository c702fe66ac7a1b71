//! Who may call: by the user id that the kernel vouches for, or over TCP by a bearer token.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use http::{HeaderMap, header};
use tokio::net::{TcpListener, UnixStream};

use super::BindError;
use super::refusal::Refusal;

/// Loopback TCP for callers that cannot reach the Unix socket.
#[derive(Debug, Clone)]
pub struct TcpOptions {
    /// Where to listen; refused unless it is loopback.
    pub address: SocketAddr,
    /// File with the bearer token, at least 16 bytes; read again for every request, so that it can be changed.
    pub token_file: PathBuf,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    /// User id of the process at the other end of a Unix socket.
    pub(super) uid: Option<u32>,
}

/// The user ids that may call over the Unix socket.
#[derive(Debug, Clone)]
pub(super) struct Uids(Vec<u32>);

impl Uids {
    pub(super) fn new(uids: Vec<u32>) -> Self {
        Self(uids)
    }

    /// Who is at the other end, if they may call.
    ///
    /// `SO_PEERCRED` tells who the peer was when it connected; it cannot be forged and needs nothing from the peer.
    pub(super) fn admit(&self, stream: &UnixStream) -> Result<Caller, Refusal> {
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        match uid {
            Some(uid) if self.0.contains(&uid) => Ok(Caller { uid: Some(uid) }),
            Some(uid) => Err(Refusal::ForeignUser(uid)),
            None => Err(Refusal::UnknownUser),
        }
    }
}

/// The bearer token of TCP callers.
#[derive(Debug, Clone)]
pub(super) struct Token {
    file: PathBuf,
}

impl Token {
    /// Checks a request's headers.
    ///
    /// A `Host` that is not loopback means that a browser was led here by a name that points to us (DNS rebinding).
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        if !host.is_some_and(is_loopback) || headers.contains_key(header::ORIGIN) {
            return Err(Refusal::ForeignHost);
        }
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .ok_or(Refusal::NoToken)?;
        let token = self.read().map_err(|detail| {
            tracing::warn!(path = %self.file.display(), detail, "control API token");
            Refusal::NoToken
        })?;
        if equal(given, token.trim_ascii()) {
            Ok(Caller { uid: None })
        } else {
            Err(Refusal::NoToken)
        }
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        let mut token = Vec::new();
        let read: io::Result<usize> = File::open(&self.file)
            .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_end(&mut token));
        read.map_err(|error| error.to_string())?;
        if token.trim_ascii().len() < TOKEN_BYTES_MIN {
            return Err(format!(
                "a token needs at least {TOKEN_BYTES_MIN} bytes; make one with: openssl rand -hex 32"
            ));
        }
        Ok(token)
    }
}

/// Binds loopback TCP, and makes sure that there is a token to be asked for.
pub(super) fn bind_tcp(options: TcpOptions) -> Result<(TcpListener, Token), BindError> {
    let TcpOptions {
        address,
        token_file,
    } = options;
    if !address.ip().is_loopback() {
        return Err(BindError::NotLoopback(address));
    }
    let token = Token { file: token_file };
    if let Err(detail) = token.read() {
        return Err(BindError::Token {
            path: token.file,
            detail,
        });
    }
    let fail = |source| BindError::Tcp { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    let listener = TcpListener::from_std(listener).map_err(fail)?;
    Ok((listener, token))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|loopback| name.eq_ignore_ascii_case(loopback))
}

/// Compares in a time that tells the length of the texts, and nothing about where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).fold(0, |differences, (a, b)| {
            std::hint::black_box(differences | (a ^ b))
        }) == 0
}

const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_taken() {
        for host in [
            "localhost",
            "LOCALHOST:19404",
            "127.0.0.1:1",
            "[::1]:19404",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost:80:80",
            "::1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_equal_only_if_every_byte_is() {
        assert!(equal(b"0123456789abcdef", b"0123456789abcdef"));
        assert!(!equal(b"0123456789abcdef", b"0123456789abcdeF"));
        assert!(!equal(b"0123456789abcde", b"0123456789abcdef"));
    }
}
