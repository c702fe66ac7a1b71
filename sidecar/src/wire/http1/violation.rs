//! What HTTP/1 input is refused for, and how often it was.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection's bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A line ends with LF alone (RFC 9112 §2.2).
    BareLineFeed,
    /// A header field goes on in the next line (RFC 9112 §5.2).
    FoldedField,
    /// Both a content-length and a transfer-encoding (RFC 9112 §6.1).
    LengthAndCoding,
    /// A content-length that is no number, or several that differ (RFC 9112 §6.3).
    ContentLength,
    /// A transfer-encoding other than `chunked`, or one in HTTP/1.0 (RFC 9112 §6.1).
    TransferEncoding,
    /// More than one host (RFC 9112 §3.2).
    SeveralHosts,
    /// No host in HTTP/1.1, whatever the target says (RFC 9112 §3.2).
    NoHost,
    /// A host that cannot be one, such as `a b` or `a/b` (RFC 9112 §3.2).
    InvalidHost,
    /// A chunk's size line is no hexadecimal number, or too long (RFC 9112 §7.1).
    ChunkSize,
    /// A chunk's data does not end where its size says (RFC 9112 §7.1).
    ChunkEnd,
    /// A header section over the limit, in bytes or in fields.
    HeadTooLarge,
    /// A header section that did not come to its end in time.
    HeadTimeout,
    /// Anything else that is no HTTP/1 message: a bare CR, a NUL, a bad method, target, version or field name.
    Syntax,
}

impl Violation {
    /// All of them, for metrics.
    pub const ALL: [Self; 13] = [
        Self::BareLineFeed,
        Self::FoldedField,
        Self::LengthAndCoding,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::SeveralHosts,
        Self::NoHost,
        Self::InvalidHost,
        Self::ChunkSize,
        Self::ChunkEnd,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::Syntax,
    ];

    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareLineFeed => "bare_line_feed",
            Self::FoldedField => "folded_field",
            Self::LengthAndCoding => "length_and_coding",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::SeveralHosts => "several_hosts",
            Self::NoHost => "no_host",
            Self::InvalidHost => "invalid_host",
            Self::ChunkSize => "chunk_size",
            Self::ChunkEnd => "chunk_end",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::Syntax => "syntax",
        }
    }
}

/// How often each kind was met since the process began.
#[derive(Debug)]
pub struct Violations([AtomicU64; Violation::ALL.len()]);

/// Those of all HTTP/1 connections of the application.
pub static VIOLATIONS: Violations = Violations::new();

impl Violations {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; Violation::ALL.len()])
    }

    /// One more; the log says so too, since hyper's answer has no body that could.
    pub fn count(&self, violation: Violation) {
        let kind = violation.as_str();
        tracing::warn!(
            kind,
            "refused the application's HTTP/1, and ended its connection"
        );
        if let Some(counter) = self.counter(violation) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self, violation: Violation) -> u64 {
        self.counter(violation)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn counter(&self, violation: Violation) -> Option<&AtomicU64> {
        let position = Violation::ALL.iter().position(|kind| *kind == violation)?;
        self.0.get(position)
    }
}

impl Default for Violations {
    fn default() -> Self {
        Self::new()
    }
}
