//! A strict and blocking HTTP/1.1 client that sees bytes as they are: header case, order, framing, trailers.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::wait;

/// One connection.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

/// A response, or a request that a scripted server received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Start line, without its line end.
    pub start: String,
    /// Headers in order, names as they were sent.
    pub headers: Vec<(String, String)>,
    /// Body, its transfer coding taken off.
    pub body: Vec<u8>,
    /// Trailers in order.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// Status code of a response.
    pub fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {:?}", self.start))
    }

    /// Value of the first header of this name, case ignored.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Value of the first trailer of this name, case ignored.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.start, self.text()))
    }
}

impl Connection<TcpStream> {
    /// Connects, with a timeout on every later read and write.
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(TcpStream::connect_timeout(&addr, wait::LONG)?))
    }

    /// Uses a connected socket.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(wait::LONG)).expect("not zero");
        stream
            .set_write_timeout(Some(wait::LONG))
            .expect("not zero");
        stream.set_nodelay(true).expect("a TCP socket");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }
}

impl Connection<UnixStream> {
    /// Connects to a Unix socket.
    pub fn open_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(wait::LONG))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }
}

impl<S: Read + Write> Connection<S> {
    /// The socket itself.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Takes the socket and the bytes that were read beyond the last message.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.buffer)
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends a request of raw bytes and reads the final response; interim ones are passed over.
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> io::Result<Message> {
        let head_only = request.as_ref().starts_with(b"HEAD ");
        self.send(request)?;
        self.response(head_only)
    }

    /// `GET path`, on a connection that stays open.
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<Message> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
    }

    /// Reads the final response, passing over interim ones.
    pub fn response(&mut self, head_only: bool) -> io::Result<Message> {
        loop {
            let mut message = self.head()?;
            let status = message.status();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let bodiless = head_only || status == 101 || status == 204 || status == 304;
            if !bodiless {
                self.body(&mut message, true)?;
            }
            return Ok(message);
        }
    }

    /// Reads a request, with its body.
    pub fn request(&mut self) -> io::Result<Message> {
        let mut message = self.head()?;
        self.body(&mut message, false)?;
        Ok(message)
    }

    /// Reads a start line and headers, nothing more.
    pub fn head(&mut self) -> io::Result<Message> {
        let start = self.line()?;
        let headers = self.fields()?;
        Ok(Message {
            start,
            headers,
            ..Message::default()
        })
    }

    /// Reads the body that belongs to a head; a response without a length lasts to the end of the connection.
    pub fn body(&mut self, message: &mut Message, to_end: bool) -> io::Result<()> {
        let chunked = message
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        if chunked {
            return self.chunks(message);
        }
        match message
            .header("content-length")
            .map(|value| value.trim().parse::<usize>())
        {
            Some(Ok(length)) => message.body = self.take(length)?,
            Some(Err(_)) => return Err(io::Error::other("bad content-length")),
            None if to_end => message.body = self.to_end()?,
            None => {}
        }
        Ok(())
    }

    /// Reads one chunk of a chunked body as it is framed; empty at the last one, whose trailers are then read by
    /// [`Self::fields`].
    pub fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| io::Error::other(format!("bad chunk size {line:?}")))?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.take(size)?;
        if self.take(2)? != b"\r\n" {
            return Err(io::Error::other("a chunk has no end"));
        }
        Ok(bytes)
    }

    /// Reads header or trailer lines to the empty line.
    pub fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| io::Error::other(format!("no header line: {line:?}")))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Reads exactly `length` bytes.
    pub fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Reads to the end of the connection.
    pub fn to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.buffer);
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self, message: &mut Message) -> io::Result<()> {
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                message.trailers = self.fields()?;
                return Ok(());
            }
            message.body.extend_from_slice(&chunk);
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let mut line = self.take(end + 2)?;
                line.truncate(end);
                return String::from_utf8(line).map_err(io::Error::other);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }
}

/// `GET path` on a connection of its own.
pub fn get(addr: SocketAddr, path: &str) -> io::Result<Message> {
    Connection::open(addr)?.exchange(format!(
        "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n"
    ))
}

/// A call over a Unix socket, on a connection of its own.
pub fn unix(
    path: &Path,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Message> {
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").expect("a string takes all");
    }
    if !body.is_empty() || method != "GET" {
        write!(request, "content-length: {}\r\n", body.len()).expect("a string takes all");
    }
    Connection::open_unix(path)?.exchange(format!("{request}\r\n{body}"))
}
