//! A server for tests: HTTP/1.1 and HTTP/2 with prior knowledge on one port, with limited capacity and faults to order.
//!
//! It counts and remembers every call that reaches it, and it never cancels: work that was begun is finished even when
//! the caller has long gone, as most real servers do. Prints `listening ADDR`, ends when its standard input ends.

mod answer;
mod http1;
mod http2;
mod ledger;
mod reply;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What the server shall be.
#[derive(Debug, Clone, Parser)]
struct Knobs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Calls that it can work on at a time; the others wait, first come first served.
    #[arg(long, default_value_t = 1_000_000)]
    slots: usize,
    /// Milliseconds that a call takes once it has a slot.
    #[arg(long, default_value_t = 0.0)]
    service_ms: f64,
    /// Draw service times from an exponential distribution of that mean.
    #[arg(long)]
    exponential: bool,
    /// Share of calls that fail.
    #[arg(long, default_value_t = 0.0)]
    fail_share: f64,
    /// Of each `x-e2e-id`, so many first calls fail.
    #[arg(long, default_value_t = 0)]
    fail_first: u32,
    /// How calls fail.
    #[arg(long, value_enum, default_value_t = Failure::Unavailable)]
    fail_how: Failure,
    /// Headers put on failures, as `name: value`.
    #[arg(long)]
    fail_header: Vec<String>,
    /// Remember nothing: for benchmarks.
    #[arg(long)]
    forgetful: bool,
    /// Most concurrent streams of an HTTP/2 connection.
    #[arg(long, default_value_t = 1_000)]
    streams_max: u32,
    /// Be no HTTP server: send this line at once on accept, then send back every byte.
    #[arg(long)]
    banner: Option<String>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Failure {
    /// 503.
    Unavailable,
    /// 500.
    Internal,
    /// gRPC status 14, trailers only.
    GrpcUnavailable,
    /// The connection (h1) or stream (h2) is broken before an answer.
    Reset,
    /// `REFUSED_STREAM` on h2; on h1 the connection is closed.
    Refused,
    /// No answer, ever.
    Hang,
    /// The connection or stream is broken in the middle of the body.
    Cut,
}

/// The server's state, shared by all connections of its one thread.
#[derive(Debug)]
struct Origin {
    knobs: Knobs,
    slots: Semaphore,
    ledger: ledger::Ledger,
    random: std::cell::RefCell<fastrand::Rng>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let knobs = Knobs::parse();
    let listener = TcpListener::bind(knobs.listen).await?;
    println!("listening {}", listener.local_addr()?);
    tokio::spawn(end_with_standard_input());
    let origin = Rc::new(Origin {
        slots: Semaphore::new(knobs.slots.min(Semaphore::MAX_PERMITS)),
        ledger: ledger::Ledger::new(!knobs.forgetful),
        random: fastrand::Rng::with_seed(knobs.seed).into(),
        knobs,
    });
    tokio::task::LocalSet::new()
        .run_until(async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::task::spawn_local(serve(Rc::clone(&origin), stream));
                    }
                    // Out of descriptors: the next accept would fail at once.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await
}

async fn serve(origin: Rc<Origin>, stream: TcpStream) {
    // Errors are the other side's doing, and tests provoke them.
    drop(stream.set_nodelay(true));
    if let Some(banner) = &origin.knobs.banner {
        drop(greet_and_echo(stream, banner).await);
        return;
    }
    let mut first = [0; 4];
    match stream.peek(&mut first).await {
        Ok(count)
            if first
                .get(..count)
                .is_some_and(|bytes| bytes.starts_with(b"PRI ")) =>
        {
            http2::serve(origin, stream).await;
        }
        Ok(1..) => http1::serve(origin, stream).await,
        Ok(0) | Err(_) => {}
    }
}

async fn greet_and_echo(mut stream: TcpStream, banner: &str) -> std::io::Result<()> {
    stream.write_all(format!("{banner}\r\n").as_bytes()).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

async fn end_with_standard_input() {
    // Read on a thread of its own: a pipe is no async source here. Its end is the order to stop.
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    drop(ended.await);
    std::process::exit(0);
}
