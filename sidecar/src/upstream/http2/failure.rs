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

use std::net::SocketAddr;

use h2::Reason;

use crate::error::UpstreamError;

/// Why a stream that was opened brought no response head.
pub(super) fn of_stream(addr: SocketAddr, error: &h2::Error) -> UpstreamError {
    if error.is_library() {
        return malformed(addr, error);
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
        malformed(addr, error)
    } else if error.is_go_away() {
        UpstreamError::GoAway { addr }
    } else {
        UpstreamError::NotSent { addr }
    }
}

fn malformed(addr: SocketAddr, error: &h2::Error) -> UpstreamError {
    UpstreamError::Malformed {
        addr,
        detail: error.to_string(),
    }
}
