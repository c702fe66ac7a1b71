//! Follows the framing of HTTP/1 requests on the raw bytes, and finds what the parser behind it would let pass.
//!
//! hyper takes a lone LF for a line's end, and forgets a content-length beside a transfer-encoding: two readings of the
//! same bytes, which is what request smuggling lives on. The scanner reads only what framing depends on; what it does
//! not object to is parsed in full by hyper. Its verdict does not depend on how the bytes are split.

use memchr::{memchr, memchr_iter};

use super::violation::Violation;

/// Follows one connection's requests.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// Bytes of the header section so far.
    head_bytes: usize,
    head_bytes_max: usize,
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between messages.
    Start,
    /// In a header section, at the beginning of a line.
    Field,
    /// In a body of known length.
    Length(u64),
    /// At a chunk's size.
    ChunkSize,
    /// In a chunk's data.
    Chunk(u64),
    /// Behind a chunk's data.
    ChunkEnd,
    /// In a trailer section, at the beginning of a line.
    Trailer,
    /// Behind a message that asked for another protocol: what follows is HTTP only if the answer is no.
    Undecided,
}

/// What a header section said about the framing of its message.
#[derive(Debug, Default)]
struct Head {
    is_http10: bool,
    asks_for_tunnel: bool,
    has_host: bool,
    framing: Framing,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Framing {
    #[default]
    NoBody,
    Length(u64),
    Chunked,
}

/// A violation, and how many of the bytes may be passed on before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Objection {
    pub(super) at: usize,
    pub(super) violation: Violation,
}

impl Scanner {
    /// At the beginning of a connection.
    pub(super) fn new(head_bytes_max: usize) -> Self {
        Self {
            state: State::Start,
            partial: Vec::new(),
            head_bytes: 0,
            head_bytes_max,
            head: Head::default(),
        }
    }

    /// Reads on; returns how many of the bytes were read: all of them, unless a message that asked for another protocol
    /// ends before.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<usize, Objection> {
        let mut at = 0;
        while let Some(rest @ [_, ..]) = bytes.get(at..) {
            at += match self.state {
                State::Undecided => break,
                State::Length(left) => self.skip(rest, left, State::Length),
                State::Chunk(left) => self.skip(rest, left, State::Chunk),
                State::Start
                | State::Field
                | State::ChunkSize
                | State::ChunkEnd
                | State::Trailer => self.lines(rest).map_err(|objection| Objection {
                    at: at + objection.at,
                    ..objection
                })?,
            };
        }
        Ok(at)
    }

    /// Whether a message has begun and its header section has not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.state == State::Field || self.state == State::Start && !self.partial.is_empty()
    }

    /// Whether the last message ended and no other began.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Start | State::Undecided) && self.partial.is_empty()
    }

    /// Whether the message that just ended asked for another protocol.
    pub(super) fn is_undecided(&self) -> bool {
        self.state == State::Undecided
    }

    /// The request for another protocol was refused: HTTP goes on.
    pub(super) fn go_on(&mut self) {
        // Undecided => Start
        self.state = State::Start;
    }

    /// Passes over data; returns how much of it.
    fn skip(&mut self, bytes: &[u8], left: u64, state: fn(u64) -> State) -> usize {
        let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left - u64::try_from(here).unwrap_or(left);
        self.state = state(left);
        if self.state == State::Chunk(0) {
            // Chunk => ChunkEnd
            self.state = State::ChunkEnd;
        } else if left == 0 {
            // Length => Start | Undecided
            self.end_message();
        }
        here
    }

    /// Reads lines for as long as they come; keeps the beginning of one until its rest comes. Returns how much was read.
    fn lines(&mut self, bytes: &[u8]) -> Result<usize, Objection> {
        let mut begin = 0;
        for newline in memchr_iter(b'\n', bytes) {
            let line = bytes.get(begin..=newline).unwrap_or_default();
            if self.passes_over(line) {
                begin = newline + 1;
                continue;
            }
            self.line(line).map_err(|violation| Objection {
                at: begin,
                violation,
            })?;
            begin = newline + 1;
            if !self.is_at_line() {
                return Ok(begin);
            }
        }
        let beginning = bytes.get(begin..).unwrap_or_default();
        self.bound(self.partial.len() + beginning.len())
            .map_err(|violation| Objection {
                at: begin,
                violation,
            })?;
        self.partial.extend_from_slice(beginning);
        Ok(bytes.len())
    }

    /// Whether a line is a whole field that framing does not depend on: what nearly every line is.
    fn passes_over(&mut self, line: &[u8]) -> bool {
        let [first, .., b'\r', b'\n'] = line else {
            return false;
        };
        let head_bytes = self.head_bytes + line.len();
        if self.state != State::Field
            || Head::is_read(*first)
            || !self.partial.is_empty()
            || head_bytes > self.head_bytes_max
        {
            return false;
        }
        self.head_bytes = head_bytes;
        true
    }

    fn is_at_line(&self) -> bool {
        !matches!(
            self.state,
            State::Length(_) | State::Chunk(_) | State::Undecided
        )
    }

    /// Reads a line, or the rest of one.
    fn line(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.bound(self.partial.len() + line.len())?;
        if self.partial.is_empty() {
            return self.whole_line(line);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(line);
        self.whole_line(&whole)
    }

    /// Whether a line may be `length` bytes long. Comes before everything else, so that the verdict on a long line is the
    /// same wherever it is split.
    fn bound(&self, length: usize) -> Result<(), Violation> {
        match self.state {
            State::ChunkSize if length > CHUNK_LINE_BYTES_MAX => Err(Violation::ChunkSize),
            State::ChunkEnd if length > CRLF.len() => Err(Violation::ChunkEnd),
            State::Start | State::Field | State::Trailer
                if self.head_bytes + length > self.head_bytes_max =>
            {
                Err(Violation::HeadTooLarge)
            }
            State::Start
            | State::Field
            | State::Length(_)
            | State::ChunkSize
            | State::Chunk(_)
            | State::ChunkEnd
            | State::Trailer
            | State::Undecided => Ok(()),
        }
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        let Some(line) = line.strip_suffix(CRLF) else {
            return Err(Violation::BareLineFeed);
        };
        match self.state {
            // RFC 9112 §2.2: empty lines before a request are to be ignored.
            State::Start if line.is_empty() => Ok(()),
            // Start => Field
            State::Start => {
                self.state = State::Field;
                self.head = Head::default();
                self.head_bytes = line.len() + CRLF.len();
                self.head.request_line(line)
            }
            State::Field if line.is_empty() => self.end_head(),
            State::Field => {
                self.head_bytes += line.len() + CRLF.len();
                self.head.field(line)
            }
            State::ChunkSize => self.chunk_size(line),
            // ChunkEnd => ChunkSize
            State::ChunkEnd if line.is_empty() => {
                self.state = State::ChunkSize;
                Ok(())
            }
            State::ChunkEnd => Err(Violation::ChunkEnd),
            // Trailer => Start | Undecided
            State::Trailer if line.is_empty() => {
                self.end_message();
                Ok(())
            }
            State::Trailer => {
                self.head_bytes += line.len() + CRLF.len();
                name_of(line).map(|_| ())
            }
            State::Length(_) | State::Chunk(_) | State::Undecided => Ok(()),
        }
    }

    fn end_head(&mut self) -> Result<(), Violation> {
        // RFC 9112 §3.2: a target with an authority of its own is no excuse. HTTP/1.0 had no such field.
        if !self.head.has_host && !self.head.is_http10 {
            return Err(Violation::NoHost);
        }
        match self.head.framing {
            // Field => ChunkSize
            Framing::Chunked => self.state = State::ChunkSize,
            // Field => Length
            Framing::Length(length) if length > 0 => self.state = State::Length(length),
            // Field => Start | Undecided
            Framing::Length(_) | Framing::NoBody => self.end_message(),
        }
        Ok(())
    }

    /// RFC 9112 §7.1: `chunk-size [ chunk-ext ] CRLF`. Extensions are ignored, and not passed on.
    fn chunk_size(&mut self, line: &[u8]) -> Result<(), Violation> {
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (digits, extension) = line.split_at_checked(digits).ok_or(Violation::ChunkSize)?;
        let is_extension = match extension.trim_ascii_start() {
            [] | [b';', ..] => !extension.contains(&b'\r'),
            _ => false,
        };
        let size = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .filter(|_| is_extension)
            .ok_or(Violation::ChunkSize)?;
        // ChunkSize => Trailer | Chunk
        self.state = match size {
            0 => {
                self.head_bytes = 0;
                State::Trailer
            }
            size => State::Chunk(size),
        };
        Ok(())
    }

    fn end_message(&mut self) {
        self.head_bytes = 0;
        self.state = if self.head.asks_for_tunnel {
            State::Undecided
        } else {
            State::Start
        };
    }
}

impl Head {
    fn request_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.is_http10 = line.ends_with(b" HTTP/1.0");
        self.asks_for_tunnel = line.starts_with(b"CONNECT ");
        if self.is_http10 || line.ends_with(b" HTTP/1.1") {
            Ok(())
        } else {
            Err(Violation::Syntax)
        }
    }

    /// Whether framing may depend on a line that begins so.
    fn is_read(first: u8) -> bool {
        matches!(
            first,
            b' ' | b'\t' | b'h' | b'H' | b'u' | b'U' | b'c' | b'C' | b't' | b'T'
        )
    }

    /// A field line. Only those that framing depends on are taken apart; hyper refuses what is wrong with the others.
    fn field(&mut self, line: &[u8]) -> Result<(), Violation> {
        match line {
            [b' ' | b'\t', ..] => return Err(Violation::FoldedField),
            [first, ..] if Self::is_read(*first) => {}
            _ => return Ok(()),
        }
        let (name, value) = name_of(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let is_second = std::mem::replace(&mut self.has_host, true);
                return match value {
                    _ if is_second => Err(Violation::SeveralHosts),
                    _ if value.iter().all(|byte| may_be_in_a_host(*byte)) => Ok(()),
                    _ => Err(Violation::InvalidHost),
                };
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.asks_for_tunnel |= !self.is_http10,
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return self.coding(value),
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112 §6.3: the same length twice is one length.
    fn length(&mut self, value: &[u8]) -> Result<(), Violation> {
        let length = std::str::from_utf8(value)
            .ok()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or(Violation::ContentLength)?;
        match self.framing {
            Framing::Chunked => return Err(Violation::LengthAndCoding),
            Framing::Length(other) if other != length => return Err(Violation::ContentLength),
            Framing::Length(_) | Framing::NoBody => self.framing = Framing::Length(length),
        }
        Ok(())
    }

    /// RFC 9112 §6.1. `chunked` is the only coding that weir can take off and put on again.
    fn coding(&mut self, value: &[u8]) -> Result<(), Violation> {
        match self.framing {
            Framing::Length(_) => Err(Violation::LengthAndCoding),
            Framing::NoBody if !self.is_http10 && value.eq_ignore_ascii_case(b"chunked") => {
                self.framing = Framing::Chunked;
                Ok(())
            }
            Framing::NoBody | Framing::Chunked => Err(Violation::TransferEncoding),
        }
    }
}

/// RFC 9110 §7.2: `uri-host [ ":" port ]`. What may stand in it, wherever: a name, an address, brackets, a port.
fn may_be_in_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// A field line's name and value.
fn name_of(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if let [b' ' | b'\t', ..] = line {
        return Err(Violation::FoldedField);
    }
    let colon = memchr(b':', line).ok_or(Violation::Syntax)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Violation::Syntax)?;
    // RFC 9112 §5.1: white space before the colon would be part of the name for some, and not for others.
    if let [.., b' ' | b'\t'] = name {
        return Err(Violation::Syntax);
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

const CRLF: &[u8] = b"\r\n";
/// Longest line with a chunk's size and its extensions. Nobody sends extensions; a kibibyte is plenty.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
