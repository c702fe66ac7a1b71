//! Reads the server's name out of a TLS `ClientHello` (RFC 8446 §4.1.2, RFC 6066 §3).
//!
//! The hello may be cut into any number of TLS records, and any number of its bytes may still be missing. Nothing is
//! decrypted or changed; what does not parse is still TLS, only without a name.

/// What the bytes tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sni {
    /// Not yet enough of them.
    NeedMore,
    /// They are no TLS handshake.
    NotTls,
    /// A TLS handshake, with its server's name where there is one.
    Known(Option<Box<str>>),
}

/// The server's name in a `ClientHello` that starts at the first of `bytes`.
pub(super) fn server_name(bytes: &[u8]) -> Sni {
    let mut records = Records::new(bytes);
    let found = match records.byte() {
        Ok(CLIENT_HELLO) => hello(&mut records),
        Ok(_) => return Sni::NotTls,
        Err(stop) => Err(stop),
    };
    match found {
        Ok(name) => Sni::Known(name),
        Err(Stop::NeedMore) => Sni::NeedMore,
        // Up to the handshake's type nothing has shown that this is TLS.
        Err(Stop::Malformed) if records.taken == 0 => Sni::NotTls,
        Err(Stop::Malformed) => Sni::Known(None),
    }
}

fn hello(records: &mut Records<'_>) -> Result<Option<Box<str>>, Stop> {
    let length = records.number(3)?;
    let end = records.taken + length;
    records.skip(VERSION_AND_RANDOM)?;
    for width in [SESSION_ID, CIPHER_SUITES, COMPRESSION_METHODS] {
        let length = records.number(width)?;
        records.skip(length)?;
    }
    // TLS 1.2 hellos may end here (RFC 5246 §7.4.1.2).
    if records.taken >= end {
        return Ok(None);
    }
    let extensions_end = {
        let length = records.number(2)?;
        end.min(records.taken + length)
    };
    while records.taken < extensions_end {
        let kind = records.number(2)?;
        let length = records.number(2)?;
        if kind == SERVER_NAME {
            return host_name(records);
        }
        records.skip(length)?;
    }
    Ok(None)
}

/// The first entry of a server name list. There is no other kind of entry than a host name (RFC 6066 §3).
fn host_name(records: &mut Records<'_>) -> Result<Option<Box<str>>, Stop> {
    records.skip(2)?;
    if records.byte()? != HOST_NAME {
        return Ok(None);
    }
    let length = records.number(2)?;
    if length == 0 || length > HOST_BYTES_MAX {
        return Ok(None);
    }
    let mut name = String::with_capacity(length);
    let mut valid = true;
    for _ in 0..length {
        let byte = records.byte()?;
        valid &= byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        name.push(char::from(byte.to_ascii_lowercase()));
    }
    Ok(valid.then(|| name.into_boxed_str()))
}

/// Why reading ended.
#[derive(Debug, Clone, Copy)]
enum Stop {
    NeedMore,
    Malformed,
}

/// The handshake's bytes, joined over the records that carry them.
struct Records<'a> {
    /// Not yet read, the current record's bytes first.
    rest: &'a [u8],
    /// Bytes of the current record that are still to come in `rest`.
    in_record: usize,
    /// Handshake bytes taken so far.
    taken: usize,
}

impl<'a> Records<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            in_record: 0,
            taken: 0,
        }
    }

    /// The next byte of the handshake.
    fn byte(&mut self) -> Result<u8, Stop> {
        self.open_record()?;
        let (byte, rest) = self.rest.split_first().ok_or(Stop::NeedMore)?;
        self.rest = rest;
        self.in_record -= 1;
        self.taken += 1;
        Ok(*byte)
    }

    /// The next number of `width` bytes, most significant first.
    fn number(&mut self, width: usize) -> Result<usize, Stop> {
        let mut number = 0;
        for _ in 0..width {
            number = (number << 8) | usize::from(self.byte()?);
        }
        Ok(number)
    }

    /// Passes over `length` bytes of the handshake.
    fn skip(&mut self, mut length: usize) -> Result<(), Stop> {
        while length > 0 {
            self.open_record()?;
            let step = length.min(self.in_record).min(self.rest.len());
            if step == 0 {
                return Err(Stop::NeedMore);
            }
            self.rest = self.rest.get(step..).unwrap_or_default();
            self.in_record -= step;
            self.taken += step;
            length -= step;
        }
        Ok(())
    }

    /// Reads the next record's header where the last record is used up (RFC 8446 §5.1).
    fn open_record(&mut self) -> Result<(), Stop> {
        if self.in_record > 0 {
            return Ok(());
        }
        // Each byte is judged as it comes, so that other protocols are told from TLS by their first wrong byte.
        let mut header = self.rest.iter().copied();
        let mut next = || header.next().ok_or(Stop::NeedMore);
        if next()? != HANDSHAKE || next()? != MAJOR_VERSION || next()? > MINOR_VERSION_MAX {
            return Err(Stop::Malformed);
        }
        let length = usize::from(u16::from_be_bytes([next()?, next()?]));
        // Handshake records may not be empty; a stream of them would never bring the hello.
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(Stop::Malformed);
        }
        self.rest = self.rest.get(HEADER_BYTES..).unwrap_or_default();
        self.in_record = length;
        Ok(())
    }
}

/// Content type `handshake` (RFC 8446 §5.1): the first byte of a TLS connection.
pub(super) const HANDSHAKE: u8 = 22;
/// All versions since SSL 3.0 have this major number.
pub(super) const MAJOR_VERSION: u8 = 3;
const MINOR_VERSION_MAX: u8 = 4;
const HEADER_BYTES: usize = 5;
const RECORD_BYTES_MAX: usize = 1 << 14;
/// Handshake type `client_hello`.
const CLIENT_HELLO: u8 = 1;
/// Bytes of `legacy_version` and `random`.
const VERSION_AND_RANDOM: usize = 2 + 32;
/// Widths of the length fields, in bytes.
const SESSION_ID: usize = 1;
const CIPHER_SUITES: usize = 2;
const COMPRESSION_METHODS: usize = 1;
/// Extension type `server_name`.
const SERVER_NAME: usize = 0;
/// Name type `host_name`.
const HOST_NAME: u8 = 0;
/// Longest host name that DNS allows (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;
