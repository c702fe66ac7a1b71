//! Runs inside the network namespace of `weir run`, and hands sockets opened there to a test outside.
//!
//! So a test holds the application's end of an intercepted connection in its own hands: it can write half a request,
//! read slowly, reset. Orders come as lines over the Unix socket named by the first argument; each is answered by one
//! byte, `+` with a descriptor beside it, or `-` and a line of text.

use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

fn main() {
    let path = std::env::args().nth(1).expect("usage: e2e-inside SOCKET");
    let stream = UnixStream::connect(path).expect("the test listens");
    let orders = BufReader::new(stream.try_clone().expect("a descriptor is left"));
    for order in orders.lines().map_while(Result::ok) {
        let answered = match obey(&order) {
            Ok(Answer::Socket(socket)) => hand_over(&stream, &socket),
            Ok(Answer::Text(text)) => writeln!(&stream, "-{text}"),
            Err(error) => writeln!(&stream, "-error: {error}"),
        };
        if answered.is_err() {
            return;
        }
    }
}

enum Answer {
    Socket(socket2::Socket),
    Text(String),
}

fn obey(order: &str) -> io::Result<Answer> {
    let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
    let addr = || rest.parse::<SocketAddr>().map_err(io::Error::other);
    match verb {
        "connect" => {
            let stream = TcpStream::connect_timeout(&addr()?, Duration::from_secs(10))?;
            Ok(Answer::Socket(stream.into()))
        }
        "connect-from" => {
            let (port, addr) = rest.split_once(' ').ok_or(io::ErrorKind::InvalidInput)?;
            let port = port.parse::<u16>().map_err(io::Error::other)?;
            let addr = addr.parse::<SocketAddr>().map_err(io::Error::other)?;
            Ok(Answer::Socket(connect_from(port, addr)?))
        }
        "listen" => Ok(Answer::Socket(TcpListener::bind(addr()?)?.into())),
        "udp" => Ok(Answer::Socket(UdpSocket::bind(addr()?)?.into())),
        "resolve" => {
            let found: Vec<String> = rest
                .to_socket_addrs()?
                .map(|found| found.to_string())
                .collect();
            Ok(Answer::Text(found.join(" ")))
        }
        "exec" => execute(rest),
        _ => Err(io::Error::other(format!("unknown order {order:?}"))),
    }
}

/// Connects from a port of the caller's choice, which another connection may have as well.
fn connect_from(port: u16, addr: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(addr),
        socket2::Type::STREAM,
        None,
    )?;
    socket.set_reuse_address(true)?;
    let any = match addr {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], port)),
        SocketAddr::V6(_) => SocketAddr::from(([0; 16], port)),
    };
    socket.bind(&any.into())?;
    socket.connect_timeout(&addr.into(), Duration::from_secs(10))?;
    Ok(socket)
}

/// Runs a program to its end, given as a JSON list.
fn execute(words: &str) -> io::Result<Answer> {
    let words: Vec<String> = serde_json::from_str(words)?;
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| io::Error::other("no program"))?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    let told = serde_json::json!({
        "code": output.status.code(),
        "stdout": String::from_utf8_lossy(&output.stdout),
        "stderr": String::from_utf8_lossy(&output.stderr),
    });
    Ok(Answer::Text(told.to_string()))
}

fn hand_over(stream: &UnixStream, socket: &socket2::Socket) -> io::Result<()> {
    let descriptors = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)),
        "the space is for one descriptor"
    );
    sendmsg(
        stream,
        &[IoSlice::new(b"+")],
        &mut ancillary,
        SendFlags::empty(),
    )?;
    Ok(())
}
