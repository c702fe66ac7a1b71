//! A peer that speaks in single frames, to say what no library would.

use std::future::Future;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `GET http://shop/` in HPACK.
pub(crate) const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 4, b's', b'h', b'o', b'p'];
/// `:status: 200` in HPACK.
pub(crate) const OK: &[u8] = &[0x88];
/// `:status: 100` in HPACK.
pub(crate) const CONTINUE: &[u8] = &[0x08, 3, b'1', b'0', b'0'];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block in a HEADERS frame, and as many CONTINUATION frames as it takes.
pub(crate) fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    let last = block.len().div_ceil(PART) - 1;
    let parts = block.chunks(PART).enumerate().map(|(number, part)| {
        let (kind, flags) = match number {
            0 => (HEADERS, flags),
            _ => (CONTINUATION, 0),
        };
        let end = if number == last { END_HEADERS } else { 0 };
        frame(kind, flags | end, stream, part)
    });
    parts.collect::<Vec<_>>().concat()
}

const PART: usize = 16_000;

/// A field that is not indexed, in HPACK.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [
        &[0],
        &*string(0, name.as_bytes()),
        &string(0, value.as_bytes()),
    ]
    .concat()
}

/// A field `x` of eight times as many letters, in Huffman's code.
pub(crate) fn letters(eights: usize) -> Vec<u8> {
    [&[0], &*string(0, b"x"), &letter_string(eights)].concat()
}

/// `:path`, of the static table, with eight times as many letters.
pub(crate) fn path(eights: usize) -> Vec<u8> {
    [&[0x04], &*letter_string(eights)].concat()
}

/// A field that becomes the first of the dynamic table, and fills it (RFC 7541 §6.2.1): a name of 4,064 bytes.
pub(crate) fn table_entry() -> Vec<u8> {
    let mut entry = field(&"n".repeat(4_064), "");
    entry[0] = 0x40;
    entry
}

/// That field again, so many times (§6.1).
pub(crate) fn repeated(times: usize) -> Vec<u8> {
    vec![0xBE; times]
}

/// That field's name again, with eight times as many letters as its value (§6.2.2).
pub(crate) fn repeated_name(eights: usize) -> Vec<u8> {
    [&[0x0F, 0x2F], &*letter_string(eights)].concat()
}

/// Eight times `a`, which has five bits, again and again.
fn letter_string(eights: usize) -> Vec<u8> {
    string(0x80, &[0x18, 0xC6, 0x31, 0x8C, 0x63].repeat(eights))
}

/// RFC 7541 §5.2: the bit that says whether it is Huffman's code, a length with a 7-bit prefix, and the bytes.
fn string(huffman: u8, bytes: &[u8]) -> Vec<u8> {
    let mut string = Vec::new();
    if bytes.len() < 127 {
        string.push(huffman | u8::try_from(bytes.len()).unwrap());
    } else {
        string.push(huffman | 127);
        let mut rest = bytes.len() - 127;
        while rest >= 128 {
            string.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        string.push(u8::try_from(rest).unwrap());
    }
    string.extend_from_slice(bytes);
    string
}

/// Trailers over the default limit of 64 KiB, in blocks that are no abuse.
pub(crate) struct Oversized {
    pub(crate) what: &'static str,
    /// Fields of the head before them: what they leave in the dynamic table, the trailers repeat.
    pub(crate) head: Vec<u8>,
    pub(crate) trailers: Vec<u8>,
}

/// The first three the crate gives us whole, the others it shortens. The last two leave just 64 KiB where its bound is
/// too low.
pub(crate) fn oversized_trailers() -> [Oversized; 7] {
    let fields = |count: u32| -> Vec<u8> {
        let fields = (0..count).map(|number| field(&number.to_string(), ""));
        fields.collect::<Vec<_>>().concat()
    };
    let oversized = |what, trailers| Oversized {
        what,
        head: Vec::new(),
        trailers,
    };
    let repeats = |what, trailers| Oversized {
        what,
        head: table_entry(),
        trailers,
    };
    [
        oversized("one field", field("x", &"x".repeat(70_000))),
        oversized(
            "one field of 150,000 letters in Huffman's code",
            letters(18_750),
        ),
        oversized("2,000 fields", fields(2_000)),
        oversized("10,000 fields", fields(10_000)),
        repeats("4 KiB repeated 100 times", repeated(100)),
        repeats(
            "64 KiB by repetition, and a field that is longer than a block",
            [repeated(16), repeated_name(22_900)].concat(),
        ),
        repeats(
            "a pseudo field that is longer than a block, and more than 64 KiB by repetition",
            [path(22_900), repeated(30)].concat(),
        ),
    ]
}

pub(crate) fn goaway(last: u32, code: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// SETTINGS with `MAX_CONCURRENT_STREAMS`.
pub(crate) fn streams_max(streams_max: u32) -> Vec<u8> {
    let mut payload = vec![0, 3];
    payload.extend_from_slice(&streams_max.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of an `RST_STREAM` or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// One end of a connection.
pub(crate) struct Raw<IO>(pub(crate) IO);

impl<IO: AsyncRead + AsyncWrite + Unpin> Raw<IO> {
    /// Says hello as a client.
    pub(crate) async fn client(io: IO) -> Self {
        let mut raw = Self(io);
        raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.write(&frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    /// Writes, as far as the other end still reads.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _the_other_end_may_be_gone = self.0.write_all(bytes).await;
    }

    /// The next frame; none at the end.
    pub(crate) async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    /// The next frame of this kind; none when the connection ends without it.
    pub(crate) async fn read_kind(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Waits until the other end closes.
    pub(crate) async fn closed(&mut self) {
        while self.read().await.is_some() {}
    }
}

/// Accepts connections, says hello with `settings`, and leaves the rest to `talk`, which gets the connection's number.
pub(crate) async fn server<T, F>(settings: Vec<u8>, talk: T) -> SocketAddr
where
    T: Fn(usize, Raw<TcpStream>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut io, _) = listener.accept().await.unwrap();
            let mut preface = [0; 24];
            io.read_exact(&mut preface).await.unwrap();
            let mut raw = Raw(io);
            raw.write(&settings).await;
            tokio::spawn(talk(number, raw));
        }
    });
    addr
}
