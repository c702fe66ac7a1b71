//! Reads an application's first bytes while its server gets the chance to speak before it.
//!
//! Most applications speak at once, and their HTTP calls then use a pooled upstream connection: opening one for each
//! would be waste. So the upstream connection is opened only when the application was silent for a short head start.
//! From then on whoever speaks first decides. A silent pair costs nothing and waits as long as it likes; only a server
//! that cannot be reached, and first bytes that stop within what might be HTTP or TLS, are waited for with a timeout.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::prefixed::Prefixed;
use super::remembered::Habit;
use super::{LOOK_BYTES_MAX, Verdict, classify, has_begun_tls};

/// How long detection waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long the application alone may speak, before its server is asked too.
    ///
    /// Applications that speak first do so within a millisecond of their connect; a server that does is delayed by this
    /// once.
    pub head_start: Duration,
    /// The same, where the destination's earlier connections brought HTTP after it was over.
    ///
    /// An application or a machine under load speaks late, and a server under load needs no connections that bring
    /// nothing. Should its address be another's meanwhile, one that speaks first, then this delays it once.
    pub head_start_again: Duration,
    /// How long the rest of a begun request line or TLS handshake may take.
    pub unfinished: Duration,
    /// The same, where the destination's earlier connections never finished theirs.
    pub unfinished_again: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head_start: Duration::from_millis(10),
            head_start_again: Duration::from_millis(500),
            unfinished: Duration::from_secs(1),
            unfinished_again: Duration::from_millis(20),
        }
    }
}

impl Patience {
    fn head_start_for(&self, habit: Option<Habit>) -> Duration {
        match habit {
            Some(Habit::ServerFirst) => Duration::ZERO,
            Some(Habit::LateHttp) => self.head_start_again,
            Some(Habit::Ambiguous) | None => self.head_start,
        }
    }

    fn unfinished_for(&self, habit: Option<Habit>) -> Duration {
        match habit {
            Some(Habit::Ambiguous) => self.unfinished_again,
            Some(Habit::ServerFirst | Habit::LateHttp) | None => self.unfinished,
        }
    }
}

/// What a connection turned out to be, and all that is needed to serve it.
#[derive(Debug)]
pub enum Detected<E> {
    /// HTTP/1.0 or 1.1.
    Http1(Http),
    /// HTTP/2 with prior knowledge.
    Http2(Http),
    /// Anything else: forwarded as it is.
    Opaque(Opaque<E>),
    /// The application reset its connection before it could be told.
    Gone(io::Error),
}

/// A connection that brings HTTP.
#[derive(Debug)]
pub struct Http {
    /// The application's side.
    pub downstream: Prefixed,
    /// A connection to the server that was opened before the application spoke; nothing was read from or written to it.
    pub spare: Option<TcpStream>,
}

/// A connection to forward as it is.
#[derive(Debug)]
pub struct Opaque<E> {
    /// The application's side.
    pub downstream: TcpStream,
    /// What was read from the application, and not yet written to the server.
    pub first_bytes: Bytes,
    /// The server's side, or why there is none.
    pub upstream: Result<TcpStream, E>,
    /// What told.
    pub sign: Sign,
}

/// What told that a connection is to be forwarded as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// A TLS handshake, with its server's name where there was one.
    Tls(Option<Box<str>>),
    /// First bytes that are neither HTTP nor TLS.
    Unknown,
    /// The server spoke first.
    ServerFirst,
    /// The server ended the connection before anyone spoke.
    ServerClosed,
    /// The application ended its direction before it said enough.
    ApplicationClosed,
    /// The application said too little for too long.
    TimedOut,
    /// The server could not be reached, and the application said nothing.
    Unreachable,
}

/// Tells what `downstream` is.
///
/// `upstream` is the connection to its server, where there is one already; else `connect` opens it, and is not polled
/// before it is needed. `habit` is what is known of the destination's earlier connections.
pub async fn race<E>(
    downstream: Prefixed,
    upstream: Option<TcpStream>,
    connect: impl Future<Output = Result<TcpStream, E>>,
    habit: Option<Habit>,
    patience: Patience,
) -> Detected<E> {
    let (prefix, downstream) = downstream.into_parts();
    let mut connect = pin!(connect);
    let mut racers = Racers {
        downstream: &downstream,
        first_bytes: BytesMut::from(prefix),
        upstream: upstream.map_or(Leg::Unwanted, Leg::Connected),
        patience,
        habit,
    };
    let told = match racers.told_by_first_bytes() {
        Some(told) => told,
        None => racers.run(connect.as_mut()).await,
    };
    let Racers {
        first_bytes,
        upstream,
        ..
    } = racers;
    let first_bytes = first_bytes.freeze();
    match told {
        Told::Http1 => Detected::Http1(Http {
            spare: upstream.connected(),
            downstream: Prefixed::new(first_bytes, downstream),
        }),
        Told::Http2 => Detected::Http2(Http {
            spare: upstream.connected(),
            downstream: Prefixed::new(first_bytes, downstream),
        }),
        Told::Opaque(sign) => Detected::Opaque(Opaque {
            upstream: match upstream {
                Leg::Connected(socket) => Ok(socket),
                Leg::Failed(error) => Err(error),
                Leg::Unwanted | Leg::Wanted => connect.await,
            },
            downstream,
            first_bytes,
            sign,
        }),
        Told::Gone(error) => Detected::Gone(error),
    }
}

/// What was told about the connection.
enum Told {
    Http1,
    Http2,
    Opaque(Sign),
    Gone(io::Error),
}

/// The upstream connection's state.
enum Leg<E> {
    Unwanted,
    Wanted,
    Connected(TcpStream),
    Failed(E),
}

impl<E> Leg<E> {
    fn connected(self) -> Option<TcpStream> {
        match self {
            Self::Connected(socket) => Some(socket),
            Self::Unwanted | Self::Wanted | Self::Failed(_) => None,
        }
    }
}

/// What happened next.
enum Event<E> {
    ServerSpoke(io::Result<usize>),
    Connected(Result<TcpStream, E>),
    ApplicationReadable(io::Result<()>),
    TimerRang,
}

struct Racers<'a, E> {
    downstream: &'a TcpStream,
    first_bytes: BytesMut,
    upstream: Leg<E>,
    patience: Patience,
    habit: Option<Habit>,
}

impl<E> Racers<'_, E> {
    async fn run(
        &mut self,
        mut connect: Pin<&mut impl Future<Output = Result<TcpStream, E>>>,
    ) -> Told {
        let head_start_until = Instant::now() + self.patience.head_start_for(self.habit);
        let mut unfinished_until: Option<Instant> = None;
        let mut timer = pin!(sleep_until(head_start_until));
        loop {
            if unfinished_until.is_none() && self.is_waiting_for_the_application() {
                let unfinished = self.patience.unfinished_for(self.habit);
                unfinished_until = Some(Instant::now() + unfinished);
            }
            let timer_is_set = set(
                timer.as_mut(),
                self.next_ring(head_start_until, unfinished_until),
            );
            let event = tokio::select! {
                // The server first: what it said, it said without having seen a byte of the application's.
                biased;
                spoke = first_byte(&self.upstream) => Event::ServerSpoke(spoke),
                result = connect.as_mut(), if matches!(self.upstream, Leg::Wanted) => Event::Connected(result),
                ready = self.downstream.readable() => Event::ApplicationReadable(ready),
                () = timer.as_mut(), if timer_is_set => Event::TimerRang,
            };
            match event {
                Event::ServerSpoke(Ok(1..)) => return Told::Opaque(Sign::ServerFirst),
                Event::ServerSpoke(Ok(0) | Err(_)) => return Told::Opaque(Sign::ServerClosed),
                // Wanted => Connected
                Event::Connected(Ok(socket)) => self.upstream = Leg::Connected(socket),
                // Wanted => Failed
                Event::Connected(Err(error)) => {
                    self.upstream = Leg::Failed(error);
                    if self.habit == Some(Habit::ServerFirst) && self.first_bytes.is_empty() {
                        return Told::Opaque(Sign::Unreachable);
                    }
                }
                Event::ApplicationReadable(ready) => {
                    if let Some(told) = ready.map_or_else(|e| Some(Told::Gone(e)), |()| self.read())
                    {
                        return told;
                    }
                }
                Event::TimerRang
                    if unfinished_until.is_some_and(|until| until <= Instant::now()) =>
                {
                    return self.told_by_silence();
                }
                // Unwanted => Wanted
                Event::TimerRang => self.upstream = Leg::Wanted,
            }
        }
    }

    /// Whether nothing but more bytes of the application, or a timeout, can tell what this is.
    fn is_waiting_for_the_application(&self) -> bool {
        !self.first_bytes.is_empty() || matches!(self.upstream, Leg::Failed(_))
    }

    fn next_ring(&self, head_start: Instant, unfinished: Option<Instant>) -> Option<Instant> {
        let head_start = matches!(self.upstream, Leg::Unwanted).then_some(head_start);
        [head_start, unfinished].into_iter().flatten().min()
    }

    /// Reads what the application sent. None: not enough yet.
    fn read(&mut self) -> Option<Told> {
        self.first_bytes.reserve(READ_BYTES);
        match self.downstream.try_read_buf(&mut self.first_bytes) {
            Ok(0) if has_begun_tls(&self.first_bytes) => Some(Told::Opaque(Sign::Tls(None))),
            Ok(0) => Some(Told::Opaque(Sign::ApplicationClosed)),
            Ok(_) => self.told_by_first_bytes(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Told::Gone(error)),
        }
    }

    fn told_by_first_bytes(&self) -> Option<Told> {
        match classify(&self.first_bytes) {
            Verdict::NeedMore => None,
            Verdict::Http1 => Some(Told::Http1),
            Verdict::Http2 => Some(Told::Http2),
            Verdict::Tls { sni } => Some(Told::Opaque(Sign::Tls(sni))),
            Verdict::Opaque => Some(Told::Opaque(Sign::Unknown)),
        }
    }

    fn told_by_silence(&self) -> Told {
        Told::Opaque(if self.first_bytes.is_empty() {
            Sign::Unreachable
        } else if has_begun_tls(&self.first_bytes) {
            Sign::Tls(None)
        } else {
            Sign::TimedOut
        })
    }
}

/// Waits for the server's first byte, without taking it. For ever, while there is no server.
async fn first_byte<E>(upstream: &Leg<E>) -> io::Result<usize> {
    match upstream {
        Leg::Connected(socket) => socket.peek(&mut [0]).await,
        Leg::Unwanted | Leg::Wanted | Leg::Failed(_) => std::future::pending().await,
    }
}

/// Sets the timer, where there is something to wait for; answers whether there is.
fn set(timer: Pin<&mut Sleep>, ring_at: Option<Instant>) -> bool {
    if let Some(at) = ring_at
        && timer.deadline() != at
    {
        timer.reset(at);
    }
    ring_at.is_some()
}

/// Room for a request's head or a `ClientHello` in one read, in bytes.
const READ_BYTES: usize = 2 * 1024;
const _: () = assert!(
    READ_BYTES <= LOOK_BYTES_MAX,
    "one read must not outgrow the look"
);

#[cfg(test)]
mod tests;
