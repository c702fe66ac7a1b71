//! Finds the frames of HTTP/2 in a stream of bytes, without looking into them.

/// The head of a frame (RFC 9113 §4.1), and what is told of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    /// Bytes of payload.
    pub(crate) length: u32,
    /// The error code of an `RST_STREAM`.
    pub(crate) code: u32,
    /// The first byte of a GOAWAY's debug data.
    pub(crate) debug: u8,
}

impl FrameHead {
    fn of([l0, l1, l2, kind, flags, s0, s1, s2, s3]: [u8; HEAD]) -> Self {
        Self {
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7F, s1, s2, s3]),
            length: u32::from_be_bytes([0, l0, l1, l2]),
            code: 0,
            debug: 0,
        }
    }
}

/// The frame types that are told apart.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// The flag of DATA and HEADERS frames that end their stream.
pub(crate) const END_STREAM: u8 = 0x1;
/// The flag of SETTINGS frames that acknowledge ours.
pub(crate) const ACK: u8 = 0x1;

/// Where in the bytes of one direction we are.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// Bytes that still belong to the frame before.
    skip: usize,
    /// The frame head that is being gathered, with the start of some payloads behind it.
    head: [u8; GATHERED_MAX],
    gathered: usize,
}

impl Scanner {
    /// Starts behind the client's preface (RFC 9113 §3.4).
    pub(crate) fn after_preface() -> Self {
        Self {
            skip: PREFACE,
            ..Self::default()
        }
    }

    /// Takes the next bytes of the stream, and tells of each frame that begins in them.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut begins: impl FnMut(FrameHead)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            // Most heads come whole, and nothing of their payloads is wanted.
            if self.gathered == 0
                && let Some((head, payload)) = bytes.split_first_chunk()
                && let head = FrameHead::of(*head)
                && !matches!(head.kind, kind::RST_STREAM | kind::GOAWAY)
            {
                self.skip = usize::try_from(head.length).unwrap_or(usize::MAX);
                bytes = payload;
                begins(head);
                continue;
            }
            bytes = self.gather(bytes);
            if let Some(head) = self.whole() {
                self.skip = usize::try_from(head.length)
                    .unwrap_or(usize::MAX)
                    .saturating_sub(self.gathered.saturating_sub(HEAD));
                self.gathered = 0;
                begins(head);
            }
        }
    }

    /// Takes what is missing of the head, and gives back the rest.
    fn gather<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let missing = self.needed().saturating_sub(self.gathered);
        let (taken, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        for (to, from) in self.head.iter_mut().skip(self.gathered).zip(taken) {
            *to = *from;
        }
        self.gathered += taken.len();
        rest
    }

    fn needed(&self) -> usize {
        let [l0, l1, l2, kind, ..] = self.head;
        if self.gathered < HEAD {
            return HEAD;
        }
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        match kind {
            kind::RST_STREAM if length == RESET_LENGTH => HEAD_AND_CODE,
            kind::GOAWAY if length > GOAWAY_LENGTH => GATHERED_MAX,
            _ => HEAD,
        }
    }

    fn whole(&self) -> Option<FrameHead> {
        let needed = self.needed();
        if self.gathered < needed {
            return None;
        }
        let (head, payload) = self.head.split_first_chunk()?;
        let mut head = FrameHead::of(*head);
        match (needed, payload) {
            (HEAD_AND_CODE, [c0, c1, c2, c3, ..]) => {
                head.code = u32::from_be_bytes([*c0, *c1, *c2, *c3]);
            }
            (GATHERED_MAX, [.., debug]) => head.debug = *debug,
            _ => {}
        }
        Some(head)
    }
}

const PREFACE: usize = 24;
const HEAD: usize = 9;
const HEAD_AND_CODE: usize = 13;
/// With a GOAWAY's last stream, code, and first byte of debug data.
const GATHERED_MAX: usize = 18;
const RESET_LENGTH: u32 = 4;
const GOAWAY_LENGTH: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9];
    const RESET: [u8; 13] = [0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 8];
    const GOAWAY: [u8; 20] = *b"\0\0\x0b\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0bhea";
    const DATA: [u8; 11] = [0, 0, 2, 0, 1, 0, 0, 0, 5, 4, 3];

    fn scan(mut scanner: Scanner, chunks: &[&[u8]]) -> Vec<FrameHead> {
        let mut frames = Vec::new();
        for chunk in chunks {
            scanner.feed(chunk, |head| frames.push(head));
        }
        frames
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let bytes = [&SETTINGS[..], &RESET, &DATA, &GOAWAY, &RESET].concat();
        let whole = scan(Scanner::default(), &[&bytes]);
        let heads: Vec<_> = whole
            .iter()
            .map(|f| (f.kind, f.stream, f.length, f.code, f.debug))
            .collect();
        assert_eq!(
            heads,
            [
                (4, 0, 6, 0, 0),
                (3, 5, 4, 8, 0),
                (0, 5, 2, 0, 0),
                (7, 0, 11, 0, b'h'),
                (3, 5, 4, 8, 0)
            ]
        );
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(
                scan(Scanner::default(), &[first, second]),
                whole,
                "cut at {at}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(scan(Scanner::default(), &single), whole);
    }

    #[test]
    fn the_preface_is_no_frame() {
        let bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &SETTINGS].concat();
        let frames = scan(Scanner::after_preface(), &[&bytes]);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].kind, kind::SETTINGS);
    }
}
