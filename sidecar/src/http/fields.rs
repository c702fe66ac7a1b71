//! Which of the fields that decide a message's handling are there, found in one pass.
//!
//! A look-up hashes its name; a pass over the names compares numbers. Most messages have none of these.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};

/// What a head has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fields(u8);

impl Fields {
    const HOP_BY_HOP: u8 = 1;
    const UPGRADE: u8 = 1 << 1;
    const CODING: u8 = 1 << 2;
    const LENGTH: u8 = 1 << 3;
    const EXPECT: u8 = 1 << 4;
    const HOST: u8 = 1 << 5;

    /// Those of `headers`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |found, name| found | bits(name)))
    }

    /// Any that belongs to one connection (RFC 9110 §7.6.1).
    #[must_use]
    pub fn has_hop_by_hop(self) -> bool {
        self.0 & Self::HOP_BY_HOP != 0
    }

    /// `Upgrade`.
    #[must_use]
    pub fn has_upgrade(self) -> bool {
        self.0 & Self::UPGRADE != 0
    }

    /// `Transfer-Encoding`.
    #[must_use]
    pub fn has_coding(self) -> bool {
        self.0 & Self::CODING != 0
    }

    /// `Content-Length`.
    #[must_use]
    pub fn has_length(self) -> bool {
        self.0 & Self::LENGTH != 0
    }

    /// `Expect`.
    #[must_use]
    pub fn has_expectation(self) -> bool {
        self.0 & Self::EXPECT != 0
    }

    /// `Host`.
    #[must_use]
    pub fn has_host(self) -> bool {
        self.0 & Self::HOST != 0
    }
}

fn bits(name: &HeaderName) -> u8 {
    match *name {
        CONNECTION | TE => Fields::HOP_BY_HOP,
        UPGRADE => Fields::HOP_BY_HOP | Fields::UPGRADE,
        TRANSFER_ENCODING => Fields::HOP_BY_HOP | Fields::CODING,
        CONTENT_LENGTH => Fields::LENGTH,
        EXPECT => Fields::EXPECT,
        HOST => Fields::HOST,
        _ => match name.as_str() {
            "keep-alive" | "proxy-connection" => Fields::HOP_BY_HOP,
            _ => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_field_is_found() {
        for (name, found) in [
            ("connection", Fields(1)),
            ("te", Fields(1)),
            ("keep-alive", Fields(1)),
            ("proxy-connection", Fields(1)),
            ("upgrade", Fields(3)),
            ("transfer-encoding", Fields(5)),
            ("content-length", Fields(8)),
            ("expect", Fields(16)),
            ("host", Fields(32)),
            ("accept", Fields(0)),
            ("x-anything", Fields(0)),
        ] {
            let headers = [(HeaderName::from_static(name), HeaderValue::from_static("x"))];
            let headers = headers.into_iter().collect();
            assert_eq!(Fields::of(&headers), found, "{name}");
        }
    }
}
