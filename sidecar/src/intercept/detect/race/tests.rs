use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::tests::client_hello;
use super::*;

/// What a race came to, and whether it had wanted its server by then.
struct Outcome {
    detected: Detected<io::Error>,
    connects: usize,
}

async fn race_against(
    downstream: TcpStream,
    server: SocketAddr,
    habit: Option<Habit>,
    patience: Patience,
) -> Outcome {
    let mut connects = 0;
    let connect = async {
        connects += 1;
        TcpStream::connect(server).await
    };
    let downstream = Prefixed::new(Bytes::new(), downstream);
    let racing = race(downstream, None, connect, habit, patience);
    let detected = timeout(HANGS, racing).await.expect("detection hangs");
    Outcome { detected, connects }
}

/// An application's connection and its far end.
async fn application() -> (TcpStream, TcpStream) {
    let inlet = listener().await;
    let app = TcpStream::connect(inlet.local_addr().unwrap());
    let (app, accepted) = tokio::join!(app, inlet.accept());
    (app.unwrap(), accepted.unwrap().0)
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// An address at which nobody listens.
async fn refusing() -> SocketAddr {
    listener().await.local_addr().unwrap()
}

const HANGS: Duration = Duration::from_secs(20);

/// Neither the head start nor a timeout is ever over.
const ENDLESS: Patience = Patience {
    head_start: Duration::from_secs(1000),
    head_start_again: Duration::from_secs(1000),
    unfinished: Duration::from_secs(1000),
    unfinished_again: Duration::from_secs(1000),
};
/// No head start, and no timeout is ever over.
const EAGER: Patience = Patience {
    head_start: Duration::ZERO,
    ..ENDLESS
};

fn opaque(detected: Detected<io::Error>) -> Opaque<io::Error> {
    let Detected::Opaque(opaque) = detected else {
        panic!("{detected:?}")
    };
    opaque
}

async fn read_exactly(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn an_application_that_speaks_first_costs_no_upstream_connection() {
    let (mut app, downstream) = application().await;
    let server = listener().await;
    app.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let outcome = race_against(downstream, server.local_addr().unwrap(), None, ENDLESS).await;
    let Detected::Http1(mut http) = outcome.detected else {
        panic!("{:?}", outcome.detected)
    };
    assert!(http.spare.is_none() && outcome.connects == 0);
    let seen = read_exactly(&mut http.downstream, 18).await;
    assert_eq!(seen, b"GET / HTTP/1.1\r\n\r\n");
}

#[tokio::test]
async fn a_preface_that_comes_byte_by_byte_is_told_and_lost_by_nobody() {
    for (bytes, is_http2) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], true),
        (&b"DELETE /a HTTP/1.1\r\nhost: b\r\n\r\n"[..], false),
    ] {
        let (mut app, downstream) = application().await;
        app.set_nodelay(true).unwrap();
        let server = listener().await;
        let address = server.local_addr().unwrap();
        let racing = race_against(downstream, address, None, ENDLESS);
        let dribble = async {
            for byte in bytes {
                app.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (outcome, ()) = tokio::join!(racing, dribble);
        let told_http2 = matches!(outcome.detected, Detected::Http2(_));
        assert_eq!(told_http2, is_http2);
        let (Detected::Http1(mut http) | Detected::Http2(mut http)) = outcome.detected else {
            panic!("{:?}", outcome.detected)
        };
        let seen = read_exactly(&mut http.downstream, bytes.len()).await;
        assert_eq!(seen, bytes);
    }
}

#[tokio::test]
async fn bytes_that_were_read_before_count_too() {
    let (_app, downstream) = application().await;
    let prefix = Bytes::from_static(b"GET / HTTP/1.1\r\n");
    let connect = std::future::pending::<io::Result<TcpStream>>();
    let downstream = Prefixed::new(prefix.clone(), downstream);
    let detected = race(downstream, None, connect, None, ENDLESS).await;
    let Detected::Http1(http) = detected else {
        panic!("{detected:?}")
    };
    assert_eq!(http.downstream.into_parts().0, prefix);
}

#[tokio::test]
async fn a_connection_that_is_there_already_is_listened_to_at_once() {
    let (_app, downstream) = application().await;
    let (mut server, upstream) = application().await;
    server.write_all(b"hi").await.unwrap();
    let connect = std::future::pending::<io::Result<TcpStream>>();
    let downstream = Prefixed::new(Bytes::new(), downstream);
    let detected = race(downstream, Some(upstream), connect, None, ENDLESS).await;
    assert_eq!(opaque(detected).sign, Sign::ServerFirst);
}

#[tokio::test]
async fn tls_is_connected_to_at_once_and_named() {
    let (mut app, downstream) = application().await;
    let server = listener().await;
    let hello = client_hello(Some("shop.example"), 100);
    app.write_all(&hello).await.unwrap();
    let outcome = race_against(downstream, server.local_addr().unwrap(), None, ENDLESS).await;
    let opaque = opaque(outcome.detected);
    assert_eq!(opaque.sign, Sign::Tls(Some("shop.example".into())));
    assert_eq!(opaque.first_bytes, hello);
    assert!(opaque.upstream.is_ok() && outcome.connects == 1);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_after_the_head_start() {
    let (_app, downstream) = application().await;
    let server = listener().await;
    let address = server.local_addr().unwrap();
    let greet = async {
        let (mut greeter, _) = server.accept().await.unwrap();
        greeter.write_all(b"220 mail\r\n").await.unwrap();
        greeter
    };
    let racing = race_against(downstream, address, None, Patience::default());
    let (outcome, _greeter) = tokio::join!(racing, greet);
    let opaque = opaque(outcome.detected);
    assert_eq!(opaque.sign, Sign::ServerFirst);
    let greeting = read_exactly(&mut opaque.upstream.unwrap(), 10).await;
    assert_eq!(greeting, b"220 mail\r\n");
}

#[tokio::test]
async fn a_known_server_that_speaks_first_gets_no_head_start_against_it() {
    let (_app, downstream) = application().await;
    let server = listener().await;
    let address = server.local_addr().unwrap();
    let greet = async {
        let (mut greeter, _) = server.accept().await.unwrap();
        greeter.write_all(b"hi").await.unwrap();
        greeter
    };
    let racing = race_against(downstream, address, Some(Habit::ServerFirst), ENDLESS);
    let (outcome, _greeter) = tokio::join!(racing, greet);
    assert_eq!(opaque(outcome.detected).sign, Sign::ServerFirst);
}

#[tokio::test]
async fn an_application_known_to_speak_late_is_given_more_time() {
    let (mut app, downstream) = application().await;
    let server = listener().await;
    let address = server.local_addr().unwrap();
    let racing = race_against(downstream, address, Some(Habit::LateHttp), EAGER);
    let speak = async {
        // Without more time the server would have been dialled by now.
        tokio::time::sleep(Duration::from_millis(20)).await;
        app.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    };
    let (outcome, ()) = tokio::join!(racing, speak);
    assert!(matches!(outcome.detected, Detected::Http1(_)));
    assert_eq!(outcome.connects, 0);
}

#[tokio::test]
async fn a_silent_pair_waits_until_the_application_speaks() {
    let (mut app, downstream) = application().await;
    let server = listener().await;
    let address = server.local_addr().unwrap();
    let racing = race_against(downstream, address, None, EAGER);
    let speak = async {
        let accepted = server.accept().await.unwrap();
        app.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        accepted
    };
    let (outcome, _accepted) = tokio::join!(racing, speak);
    let Detected::Http1(http) = outcome.detected else {
        panic!("{:?}", outcome.detected)
    };
    assert!(
        http.spare.is_some(),
        "the connection that was opened is handed on"
    );
}

#[tokio::test]
async fn a_server_that_ends_a_silent_connection_ends_detection() {
    let (_app, downstream) = application().await;
    let server = listener().await;
    let address = server.local_addr().unwrap();
    let racing = race_against(downstream, address, None, EAGER);
    let close = async { drop(server.accept().await.unwrap()) };
    let (outcome, ()) = tokio::join!(racing, close);
    assert_eq!(opaque(outcome.detected).sign, Sign::ServerClosed);
}

#[tokio::test]
async fn an_application_that_only_ends_its_direction_still_gets_its_server() {
    let (mut app, downstream) = application().await;
    let server = listener().await;
    app.shutdown().await.unwrap();
    let outcome = race_against(downstream, server.local_addr().unwrap(), None, ENDLESS).await;
    let opaque = opaque(outcome.detected);
    assert_eq!(opaque.sign, Sign::ApplicationClosed);
    assert!(opaque.upstream.is_ok() && opaque.first_bytes.is_empty());
}

#[tokio::test]
async fn a_beginning_that_ends_is_forwarded_as_it_is() {
    let (mut app, downstream) = application().await;
    let server = listener().await;
    app.write_all(b"GET /").await.unwrap();
    app.shutdown().await.unwrap();
    let outcome = race_against(downstream, server.local_addr().unwrap(), None, ENDLESS).await;
    let opaque = opaque(outcome.detected);
    assert_eq!(opaque.sign, Sign::ApplicationClosed);
    assert_eq!(&opaque.first_bytes[..], b"GET /");
}

#[tokio::test]
async fn an_application_that_resets_is_gone_and_nobody_is_dialled() {
    let (app, downstream) = application().await;
    let server = listener().await;
    socket2::SockRef::from(&app)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(app);
    let outcome = race_against(downstream, server.local_addr().unwrap(), None, ENDLESS).await;
    assert!(matches!(outcome.detected, Detected::Gone(_)));
    assert_eq!(outcome.connects, 0);
}

#[tokio::test]
async fn a_beginning_that_stops_is_forwarded_after_its_timeout() {
    let patience = Patience {
        unfinished: Duration::from_millis(30),
        ..ENDLESS
    };
    for (beginning, sign) in [
        (&b"GE"[..], Sign::TimedOut),
        (&b"\x16\x03\x01\x02"[..], Sign::Tls(None)),
    ] {
        let (mut app, downstream) = application().await;
        let server = listener().await;
        app.write_all(beginning).await.unwrap();
        let began = Instant::now();
        let outcome = race_against(downstream, server.local_addr().unwrap(), None, patience).await;
        assert!(began.elapsed() >= patience.unfinished);
        let opaque = opaque(outcome.detected);
        assert_eq!(opaque.sign, sign);
        assert_eq!(&opaque.first_bytes[..], beginning);
        assert!(opaque.upstream.is_ok());
    }
}

#[tokio::test]
async fn a_destination_known_for_beginnings_that_stop_is_not_waited_for_as_long() {
    let patience = Patience {
        unfinished_again: Duration::from_millis(5),
        ..ENDLESS
    };
    let (mut app, downstream) = application().await;
    let server = listener().await;
    app.write_all(b"GE").await.unwrap();
    let address = server.local_addr().unwrap();
    let outcome = race_against(downstream, address, Some(Habit::Ambiguous), patience).await;
    assert_eq!(opaque(outcome.detected).sign, Sign::TimedOut);
}

#[tokio::test]
async fn a_server_may_speak_while_the_application_has_only_begun() {
    let (mut app, downstream) = application().await;
    let server = listener().await;
    let address = server.local_addr().unwrap();
    app.write_all(b"A").await.unwrap();
    let greet = async {
        let (mut greeter, _) = server.accept().await.unwrap();
        greeter.write_all(b"hi").await.unwrap();
        greeter
    };
    let racing = race_against(downstream, address, None, EAGER);
    let (outcome, _greeter) = tokio::join!(racing, greet);
    let opaque = opaque(outcome.detected);
    assert_eq!(opaque.sign, Sign::ServerFirst);
    assert_eq!(&opaque.first_bytes[..], b"A");
}

#[tokio::test]
async fn http_is_told_although_its_server_refuses_connections() {
    let (mut app, downstream) = application().await;
    let address = refusing().await;
    let racing = race_against(downstream, address, None, EAGER);
    let speak = async {
        // Long enough for the refusal to be in; were it not, the outcome would be the same.
        tokio::time::sleep(Duration::from_millis(20)).await;
        app.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    };
    let (outcome, ()) = tokio::join!(racing, speak);
    assert!(matches!(outcome.detected, Detected::Http1(_)));
}

#[tokio::test]
async fn a_silent_application_whose_server_refuses_is_told_so_after_a_timeout() {
    let patience = Patience {
        unfinished: Duration::from_millis(30),
        ..EAGER
    };
    let (_app, downstream) = application().await;
    let outcome = race_against(downstream, refusing().await, None, patience).await;
    let opaque = opaque(outcome.detected);
    assert_eq!(opaque.sign, Sign::Unreachable);
    assert!(opaque.upstream.is_err());
}

#[tokio::test]
async fn a_known_server_first_destination_that_refuses_is_told_at_once() {
    let (_app, downstream) = application().await;
    let habit = Some(Habit::ServerFirst);
    let outcome = race_against(downstream, refusing().await, habit, ENDLESS).await;
    assert_eq!(opaque(outcome.detected).sign, Sign::Unreachable);
}
