//! Gathers what the protocols' code counts by itself: bytes that were not what they claimed to be.
//!
//! That code stands above telemetry and counts in statics, so that refusing a connection needs no handle to anything.

use crate::telemetry::metrics::exposition::{Cause, Refused};
use crate::wire::{http1, http2};

/// Every kind of refused input with its count.
pub(super) fn input() -> Vec<Refused> {
    http1_input().chain(http2_input()).collect()
}

fn http1_input() -> impl Iterator<Item = Refused> {
    use http1::Violation;
    Violation::ALL.into_iter().map(|violation| Refused {
        protocol: "http1",
        cause: match violation {
            Violation::HeadTooLarge => Cause::HeaderLimit,
            Violation::BareLineFeed
            | Violation::FoldedField
            | Violation::LengthAndCoding
            | Violation::ContentLength
            | Violation::TransferEncoding
            | Violation::SeveralHosts
            | Violation::NoHost
            | Violation::InvalidHost
            | Violation::ChunkSize
            | Violation::ChunkEnd
            | Violation::HeadTimeout
            | Violation::Syntax => Cause::Malformed(violation.as_str()),
        },
        count: http1::VIOLATIONS.get(violation),
    })
}

fn http2_input() -> impl Iterator<Item = Refused> {
    use http2::Violation;
    Violation::ALL.into_iter().map(|violation| Refused {
        protocol: "http2",
        cause: match violation {
            Violation::HeaderLimit => Cause::HeaderLimit,
            Violation::Frame | Violation::Message | Violation::Flood => {
                Cause::Malformed(violation.as_str())
            }
        },
        count: http2::VIOLATIONS.get(violation),
    })
}
