//! Sockets opened inside the network namespace of `weir run`, in the hands of the test.
//!
//! The other end is the `e2e-inside` binary, which is the command that `weir run` runs.

use std::io::{self, BufRead, BufReader, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::wait;

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Executed {
    /// Exit code; None after a signal.
    pub code: Option<i64>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The line to `e2e-inside`.
#[derive(Debug)]
pub struct Inside {
    line: Mutex<UnixStream>,
}

impl Inside {
    /// Waits for `e2e-inside` to connect.
    pub fn accept(listener: &UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let stream = wait::until("e2e-inside to connect", wait::LONG, || {
            listener.accept().ok().map(|(stream, _)| stream)
        });
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(wait::LONG))?;
        Ok(Self {
            line: Mutex::new(stream),
        })
    }

    /// Listens where `e2e-inside` will connect.
    pub fn listen(path: &Path) -> io::Result<UnixListener> {
        UnixListener::bind(path)
    }

    /// Connects to `addr` as the application would.
    pub fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        self.stream(&format!("connect {addr}"))
    }

    /// Connects from a port that other connections may have too, as long as they go elsewhere.
    pub fn connect_from(&self, port: u16, addr: SocketAddr) -> io::Result<TcpStream> {
        self.stream(&format!("connect-from {port} {addr}"))
    }

    fn stream(&self, order: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::from(self.socket(order)?);
        stream.set_read_timeout(Some(wait::LONG))?;
        stream.set_write_timeout(Some(wait::LONG))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Listens as the application would.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        Ok(TcpListener::from(self.socket(&format!("listen {addr}"))?))
    }

    /// Binds a UDP socket as the application would.
    pub fn udp(&self, addr: SocketAddr) -> io::Result<UdpSocket> {
        Ok(UdpSocket::from(self.socket(&format!("udp {addr}"))?))
    }

    /// Resolves `HOST:PORT` as the application would.
    pub fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let line = self.line.lock().expect("no holder panics");
        writeln!(&*line, "resolve {name}")?;
        let mut text = String::new();
        BufReader::new(&*line).read_line(&mut text)?;
        let text = text.trim().trim_start_matches('-');
        if text.starts_with("error") {
            return Err(io::Error::other(text.to_owned()));
        }
        Ok(text
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect())
    }

    /// Runs a program to its end as the application would, and answers with its exit code, standard output and standard
    /// error. Other orders wait meanwhile.
    pub fn exec(&self, words: &[&str]) -> Executed {
        let line = self.line.lock().expect("no holder panics");
        line.set_read_timeout(Some(Duration::from_mins(5)))
            .expect("not zero");
        writeln!(&*line, "exec {}", serde_json::json!(words)).expect("e2e-inside is there");
        let mut text = String::new();
        BufReader::new(&*line)
            .read_line(&mut text)
            .expect("e2e-inside answers");
        line.set_read_timeout(Some(wait::LONG)).expect("not zero");
        let text = text.trim().trim_start_matches('-');
        let told: serde_json::Value = serde_json::from_str(text)
            .unwrap_or_else(|_| panic!("running {words:?} inside: {text}"));
        let string = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        Executed {
            code: told["code"].as_i64(),
            stdout: string("stdout"),
            stderr: string("stderr"),
        }
    }

    fn socket(&self, order: &str) -> io::Result<OwnedFd> {
        let line = self.line.lock().expect("no holder panics");
        writeln!(&*line, "{order}")?;
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &*line,
            &mut [IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
                && let Some(descriptor) = descriptors.next()
            {
                return Ok(descriptor);
            }
        }
        let mut text = String::new();
        BufReader::new(&*line).read_line(&mut text)?;
        Err(io::Error::other(format!("{order}: {}", text.trim())))
    }
}
