//! The memory that weir may have: downloads that nobody reads do not go beyond it, and those that are read go on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use e2e::http1::Connection;
use e2e::scripted::Server;
use e2e::weir::Weir;
use e2e::{procfs, wait};

/// Too little for the calls that are made here.
const MEMORY_MAX_MIB: u64 = 96;
/// Each would take up to 240 KiB.
const DOWNLOADS: usize = 600;

/// Answers `/big` with more than anybody reads, and everything else with `ok`.
fn server() -> Server {
    Server::start(|stream, _| {
        let mut connection = Connection::over(stream);
        while let Ok(request) = connection.request() {
            if request.start.contains("/big") {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
                let (mut stream, _) = connection.into_parts();
                // Nobody reads for long, and that is no fault.
                stream.set_write_timeout(None).expect("a TCP socket");
                let part = vec![b'x'; 64 * 1024];
                let mut written = stream.write_all(head.as_bytes());
                while written.is_ok() {
                    written = stream.write_all(&part);
                }
                return;
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if connection.send(answer).is_err() {
                return;
            }
        }
    })
}

fn request(server: &Server, path: &str) -> String {
    let addr = server.addr();
    format!("GET http://{addr}{path} HTTP/1.1\r\nHost: {addr}\r\n\r\n")
}

fn open(weir: &Weir) -> TcpStream {
    let connection = Connection::open(weir.explicit()).expect("there is a backlog");
    let socket = socket2::Socket::from(connection.into_parts().0);
    // What nobody reads shall wait in weir, and not in the kernel.
    socket.set_recv_buffer_size(4096).expect("a TCP socket");
    socket.into()
}

/// What weir has read of its servers, in bytes.
fn received(weir: &Weir) -> f64 {
    let labels = ["side=\"upstream\"", "direction=\"received\""];
    weir.metric("weir_connection_bytes_total", &labels)
}

#[test]
fn downloads_that_nobody_reads_stay_within_the_memory_that_weir_may_have() {
    let server = server();
    let weir = Weir::builder()
        .env("WEIR_MEMORY_MAX", format!("{MEMORY_MAX_MIB}Mi"))
        .proxy();
    let mut other = Connection::over(open(&weir));
    assert_eq!(
        other
            .exchange(request(&server, "/"))
            .expect("an answer")
            .status(),
        200
    );
    let mut readers: Vec<Connection> = (0..DOWNLOADS)
        .map(|_| Connection::over(open(&weir)))
        .collect();
    let mut refused = 0;
    for reader in &mut readers {
        let asked = reader.send(request(&server, "/big"));
        let head = asked.and_then(|()| reader.head()).expect("an answer");
        if head.status() == 503 {
            assert_eq!(head.header("x-weir-shed"), Some("memory"), "{head:?}");
            assert_eq!(head.header("retry-after"), Some("1"), "{head:?}");
            refused += 1;
        }
    }
    assert!(refused > 0, "{DOWNLOADS} calls at once");
    let sheds = weir.metric("weir_outbound_rejected_total", &["reason=\"memory\""]);
    assert_eq!(sheds as usize, refused);
    let mut before = -1.0;
    wait::until_true("weir to read no more", wait::LONG, || {
        std::thread::sleep(wait::STEP * 40);
        let now = received(&weir);
        std::mem::replace(&mut before, now) >= now
    });

    // Calls in flight go on at their readers' pace.
    let first = readers.first_mut().expect("there are some").stream();
    let mut part = vec![0; 16 * 1024];
    for number in 0..16 {
        let read = first.read_exact(&mut part);
        read.unwrap_or_else(|error| panic!("part {number}: {error}"));
    }
    let peak = procfs::peak_rss_kib(weir.id());
    assert!(peak < MEMORY_MAX_MIB * 1024, "{peak} KiB");

    drop(readers);
    wait::until_true("calls to pass again", wait::LONG, || {
        let answer = other.exchange(request(&server, "/"));
        answer.expect("an answer").status() == 200
    });
    let mut next = Connection::over(open(&weir));
    let answer = next.exchange(request(&server, "/")).expect("an answer");
    assert_eq!(answer.status(), 200, "{}", answer.text());
}
