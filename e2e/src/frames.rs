//! HTTP/2 frames byte by byte, for what no well-behaved library would send or can be made to send.

use std::io::{self, Read, Write};

/// The client's connection preface (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 §6).
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub mod flag {
    /// END_STREAM on DATA and HEADERS; ACK on SETTINGS and PING.
    pub const END_STREAM: u8 = 1;
    /// ACK on SETTINGS and PING.
    pub const ACK: u8 = 1;
    /// END_HEADERS.
    pub const END_HEADERS: u8 = 4;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream id; 0 for the connection.
    pub stream: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    /// An empty SETTINGS frame.
    pub fn settings() -> Self {
        Self::new(kind::SETTINGS, 0, 0, [])
    }

    /// The acknowledgement of the peer's SETTINGS.
    pub fn settings_ack() -> Self {
        Self::new(kind::SETTINGS, flag::ACK, 0, [])
    }

    /// RST_STREAM with an error code.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// GOAWAY with the last stream that was or might be processed, and an error code.
    pub fn goaway(last: u32, code: u32) -> Self {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend_from_slice(&code.to_be_bytes());
        Self::new(kind::GOAWAY, 0, 0, payload)
    }

    /// HEADERS in one piece.
    pub fn headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Self {
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        Self::new(kind::HEADERS, flags, stream, hpack(fields))
    }

    /// The headers of a plain GET.
    pub fn get(stream: u32, authority: &str) -> Self {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", authority),
        ];
        Self::headers(stream, &fields, true)
    }

    /// The frame's bytes; a wrong length can be made by changing them.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len())
            .expect("a test's frame is small")
            .to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Writes the frame.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.bytes())
    }

    /// Reads the next frame.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 9];
        from.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Ok(Self {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    /// Error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let from = if self.kind == kind::GOAWAY { 4 } else { 0 };
        let bytes = self
            .payload
            .get(from..from + 4)
            .and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default())
    }
}

/// Reads frames until one is of `kind`.
pub fn read_until(from: &mut impl Read, kind: u8) -> io::Result<Frame> {
    loop {
        let frame = Frame::read(from)?;
        if frame.kind == kind {
            return Ok(frame);
        }
    }
}

/// Header fields as literals without indexing or Huffman coding (RFC 7541 §6.2.2).
pub fn hpack(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a 7-bit prefix (RFC 7541 §5.1).
fn length(mut value: usize, into: &mut Vec<u8>) {
    if value < 0x7f {
        into.push(value as u8);
        return;
    }
    into.push(0x7f);
    value -= 0x7f;
    while value >= 0x80 {
        into.push((value % 0x80) as u8 | 0x80);
        value /= 0x80;
    }
    into.push(value as u8);
}
