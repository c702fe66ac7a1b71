//! How large an HTTP/2 header section may be, heads and trailers alike.
//!
//! The `h2` crate (0.4.20) has one bound for both. Heads over it are refused; of trailers over it, fields are left out
//! without a word, and the rest would pass for whole. So the limit is kept here, and the crate's bound lies so far above
//! that what it leaves of shortened trailers is over our limit still: see [`HeaderLimit::bytes_max_of_h2`].
//!
//! The crate tells peers its own bound (`SETTINGS_MAX_HEADER_LIST_SIZE`), which is more than is taken here. That setting
//! is advice: who heeds it learns of our limit by the refusal. A path of 64 KiB or more never gets here: the crate resets
//! its stream, since `http` cannot hold it.

use http::{HeaderMap, Request, Response};

use super::http2_frames::{END_STREAM, FrameHead, kind};

/// A header section is larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a header section of more than {bytes_max} bytes (WEIR_HEADER_BYTES_MAX), or of more than {NAMES_MAX} names"
)]
pub struct TooLarge {
    /// The limit.
    pub bytes_max: usize,
}

/// The largest header section that is taken.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLimit {
    bytes_max: usize,
    count: fn(),
}

impl HeaderLimit {
    /// Header sections of up to so many bytes, as RFC 9113 §6.5.2 counts them. `count` is called for each larger one.
    #[must_use]
    pub fn new(bytes_max: usize, count: fn()) -> Self {
        Self { bytes_max, count }
    }

    /// Checks a request's head.
    ///
    /// # Errors
    /// When it is larger; that is counted.
    pub fn check_request<B>(self, request: &Request<B>) -> Result<(), TooLarge> {
        let (method, uri) = (request.method(), request.uri());
        let scheme = uri.scheme_str().map(|scheme| (":scheme", scheme));
        let authority = uri.authority().map(|a| (":authority", a.as_str()));
        let path = uri.path_and_query().map(|path| (":path", path.as_str()));
        let pseudo = [Some((":method", method.as_str())), scheme, authority, path];
        let pseudo = pseudo.into_iter().flatten();
        let pseudo = pseudo.map(|(name, value)| field_bytes(name.len(), value.len()));
        self.check(pseudo.sum(), request.headers())
    }

    /// Checks a response's head, also an interim one's.
    ///
    /// # Errors
    /// When it is larger; that is counted.
    pub fn check_response<B>(self, response: &Response<B>) -> Result<(), TooLarge> {
        let status = field_bytes(":status".len(), response.status().as_str().len());
        self.check(status, response.headers())
    }

    /// Checks trailers.
    ///
    /// # Errors
    /// When they are larger; that is counted.
    pub fn check_trailers(self, trailers: &HeaderMap) -> Result<(), TooLarge> {
        self.check(0, trailers)
    }

    fn check(self, pseudo: usize, fields: &HeaderMap) -> Result<(), TooLarge> {
        let bytes = fields
            .iter()
            .map(|(name, value)| field_bytes(name.as_str().len(), value.len()));
        let bytes = pseudo + bytes.sum::<usize>();
        if bytes <= self.bytes_max && fields.keys_len() <= NAMES_MAX {
            return Ok(());
        }
        (self.count)();
        Err(TooLarge {
            bytes_max: self.bytes_max,
        })
    }

    /// The bound for the crate. It holds so much of trailers that nobody reads yet, in memory up to twice as much, since
    /// the smallest fields take 72 bytes each.
    ///
    /// When the crate leaves a field out, this one and what it has kept come to the bound. What is not kept is this field
    /// and the pseudo fields, which it takes in trailers too: a part of the block, unpacked, and for each of them at most
    /// one entry of the dynamic table, as its name or as the whole of it. The rest is over our limit.
    #[must_use]
    pub fn bytes_max_of_h2(self) -> u32 {
        let unpacked = self.block_bytes_max() * 8 / HUFFMAN_BITS_MIN + 1;
        let entries = NOT_KEPT_MAX * (usize::from(HEADER_TABLE_BYTES) + FIELD_OVERHEAD);
        u32::try_from(self.bytes_max + 1 + unpacked + entries).unwrap_or(u32::MAX)
    }

    fn block_bytes_max(self) -> usize {
        self.bytes_max + self.bytes_max / 4 + BLOCK_SLACK
    }
}

/// Watches how large the header blocks of one direction are, as they are sent.
#[derive(Debug)]
pub(crate) struct Blocks {
    bytes_max: usize,
    bytes: usize,
    ends_stream: bool,
}

impl Blocks {
    pub(crate) fn within(limit: HeaderLimit) -> Self {
        Self {
            bytes_max: limit.block_bytes_max(),
            bytes: 0,
            ends_stream: false,
        }
    }

    /// What the block that this frame belongs to has come to; small for frames of none.
    pub(crate) fn see(&mut self, frame: FrameHead) -> Size {
        let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
        match frame.kind {
            kind::HEADERS => {
                self.bytes = length;
                self.ends_stream = frame.flags & END_STREAM != 0;
            }
            kind::CONTINUATION => self.bytes = self.bytes.saturating_add(length),
            _ => return Size::Small,
        }
        if self.bytes > self.bytes_max {
            Size::FarOver
        } else if self.ends_stream && self.bytes > self.bytes_max / FIELD_OVERHEAD {
            Size::LargeEnd
        } else {
            Size::Small
        }
    }
}

/// How large a header block is, as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// No reason to look twice, though what it holds may be over the limit.
    Small,
    /// Trailers, or a head without a body, with room for more of the smallest fields than the limit allows.
    LargeEnd,
    /// Far over the limit: to be ended with its connection.
    FarOver,
}

/// The protocol's default for the dynamic table (RFC 7541 §4.2), which connections of both sides keep.
pub(crate) const HEADER_TABLE_BYTES: u16 = 4096;

/// RFC 9113 §6.5.2.
const fn field_bytes(name: usize, value: usize) -> usize {
    name + value + FIELD_OVERHEAD
}

const FIELD_OVERHEAD: usize = 32;

/// How far over the limit a block may be, as it is sent, beside a quarter of the limit, before its connection ends instead
/// of its stream. So much would h2 let it have by a bound that is the limit. Some encoders, that of h2 among them, use
/// Huffman's code also where it makes a value larger: half as large again for Cyrillic letters, which passes up to 43 KiB.
const BLOCK_SLACK: usize = 32 * 1024;

/// Huffman's shortest codes (RFC 7541, appendix B).
const HUFFMAN_BITS_MIN: usize = 5;

/// `:method`, `:scheme`, `:authority`, `:path`, `:protocol`, `:status`, and the field that was left out.
const NOT_KEPT_MAX: usize = 7;

/// More names than any message has. Against names made to collide, `http` (1.5.0) may hold no more than 6,554, and h2
/// leaves out what it does not hold.
const NAMES_MAX: usize = 6_000;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const LIMIT: usize = 8192;

    fn limit() -> HeaderLimit {
        HeaderLimit::new(LIMIT, || {})
    }

    fn fields(bytes: usize) -> HeaderMap {
        let value = "b".repeat(bytes - "x-big".len() - FIELD_OVERHEAD);
        HeaderMap::from_iter([(
            http::HeaderName::from_static("x-big"),
            HeaderValue::try_from(value).unwrap(),
        )])
    }

    #[test]
    fn trailers_are_refused_above_the_limit_to_the_byte() {
        assert!(limit().check_trailers(&fields(LIMIT)).is_ok());
        assert!(limit().check_trailers(&fields(LIMIT + 1)).is_err());
    }

    #[test]
    fn pseudo_fields_count() {
        // :status 200 is 42 bytes; :method GET 42, :scheme http 43, :authority shop 46, :path / 38.
        for (pseudo, is_request) in [(42, false), (169, true)] {
            for (over, refuses) in [(0, false), (1, true)] {
                let fields = fields(LIMIT - pseudo + over);
                let checked = if is_request {
                    let mut request = Request::get("http://shop/").body(()).unwrap();
                    *request.headers_mut() = fields;
                    limit().check_request(&request)
                } else {
                    let mut response = Response::new(());
                    *response.headers_mut() = fields;
                    limit().check_response(&response)
                };
                assert_eq!(checked.is_err(), refuses, "{pseudo} + {over}");
            }
        }
    }

    /// What a block comes to with these frames: kind, flags, bytes.
    fn size(blocks: &mut Blocks, frames: &[(u8, u8, u32)]) -> Size {
        let sizes = frames.iter().map(|&(kind, flags, length)| {
            blocks.see(FrameHead {
                kind,
                flags,
                stream: 1,
                length,
                code: 0,
                debug: 0,
            })
        });
        sizes.last().unwrap()
    }

    #[test]
    fn a_block_counts_with_its_continuations_and_no_further() {
        let mut blocks = Blocks::within(limit());
        let whole = [(kind::HEADERS, 0, 16_384), (kind::CONTINUATION, 0, 26_624)];
        for _ in 0..3 {
            assert_eq!(size(&mut blocks, &whole), Size::Small);
            assert_eq!(size(&mut blocks, &[(kind::DATA, 0, 16_384)]), Size::Small);
        }
        let more = [(kind::CONTINUATION, 0, 1)];
        assert_eq!(size(&mut blocks, &more), Size::FarOver);
    }

    #[test]
    fn a_large_block_that_ends_its_stream_is_told_however_it_is_cut() {
        let mut blocks = Blocks::within(limit());
        for (first, second, expected) in [
            ((END_STREAM, 1), 1_343, Size::Small),
            ((END_STREAM, 1), 1_344, Size::LargeEnd),
            ((END_STREAM, 1_345), 0, Size::LargeEnd),
            ((0, 1), 16_384, Size::Small),
        ] {
            let block = [
                (kind::HEADERS, first.0, first.1),
                (kind::CONTINUATION, 0, second),
            ];
            assert_eq!(size(&mut blocks, &block), expected, "{first:?} {second}");
            // What follows on other streams is not of it.
            assert_eq!(size(&mut blocks, &[(kind::DATA, 0, 1)]), Size::Small);
        }
    }

    #[test]
    fn more_names_than_any_message_has_are_refused() {
        let named = |count: usize| -> HeaderMap {
            let names = (0..count).map(|number| format!("x{number}"));
            names
                .map(|name| (name.parse().unwrap(), HeaderValue::from_static("")))
                .collect::<HeaderMap>()
        };
        let limit = HeaderLimit::new(1 << 20, || {});
        assert!(limit.check_trailers(&named(NAMES_MAX)).is_ok());
        assert!(limit.check_trailers(&named(NAMES_MAX + 1)).is_err());
    }
}
