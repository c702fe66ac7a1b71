//! What an error of the `h2` crate says about the request.
//!
//! Only what the peer promised counts as unprocessed. The crate reports (0.4.20):
//!
//! | what happened | what the stream gets |
//! |---|---|
//! | GOAWAY with a last stream id below the stream's | `GoAway`, remote |
//! | RST_STREAM | `Reset`, remote |
//! | the connection ended, GOAWAY before it or not, with the stream's id at or below the last | `Io`, broken pipe |
//! | the peer broke the protocol on this stream, or on the connection | `Reset` or `GoAway`, library |
//! | we ended the connection for another stream's header section, or for this one's | `Io`, invalid data |

use std::io;
use std::net::SocketAddr;

use h2::Reason;

use crate::error::UpstreamError;

/// Why a stream that was opened brought no response head.
pub(super) fn of_stream(addr: SocketAddr, error: &h2::Error) -> UpstreamError {
    if error.is_library() {
        return malformed(addr, error.to_string());
    }
    if error.is_remote() && error.is_go_away() {
        return UpstreamError::GoAway { addr };
    }
    if error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
        return UpstreamError::RefusedStream { addr };
    }
    UpstreamError::Reset {
        addr,
        reason: error.reason(),
        detail: error.to_string(),
    }
}

/// Why a connection ended before it could carry a call. Nothing was sent on it.
pub(super) fn of_opening(addr: SocketAddr, error: &h2::Error) -> UpstreamError {
    if error.is_library() {
        malformed(addr, error.to_string())
    } else if error.is_go_away() {
        UpstreamError::GoAway { addr }
    } else {
        UpstreamError::NotSent { addr }
    }
}

/// The same failure, for one more call that waited for the same connection.
pub(super) fn again(addr: SocketAddr, error: &UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Connect { source, .. } => UpstreamError::Connect {
            addr,
            source: source.raw_os_error().map_or_else(
                || io::Error::from(source.kind()),
                io::Error::from_raw_os_error,
            ),
        },
        UpstreamError::ConnectTimeout { after, .. } => UpstreamError::ConnectTimeout {
            addr,
            after: *after,
        },
        UpstreamError::Malformed { detail, .. } => UpstreamError::Malformed {
            addr,
            detail: detail.clone(),
        },
        UpstreamError::GoAway { .. } => UpstreamError::GoAway { addr },
        // Opening fails in no other way; whatever it was, nothing was sent.
        UpstreamError::NotSent { .. }
        | UpstreamError::RefusedStream { .. }
        | UpstreamError::Reset { .. }
        | UpstreamError::AttemptTimeout { .. }
        | UpstreamError::RequestBody(_) => UpstreamError::NotSent { addr },
    }
}

/// The response was not HTTP/2, or more than is taken.
pub(super) fn malformed(addr: SocketAddr, detail: impl Into<String>) -> UpstreamError {
    UpstreamError::Malformed {
        addr,
        detail: detail.into(),
    }
}
