use super::*;

fn message(id: u16, answer: bool, tail: &[u8]) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([if answer { 0x80 } else { 0 }, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.extend(tail);
    bytes
}

/// A relay before one resolver: the client's socket, connected to it, and the resolver's.
struct Fixture {
    client: UdpSocket,
    resolver: UdpSocket,
    _relay: JoinSet<io::Result<std::convert::Infallible>>,
    _conf: tempfile::NamedTempFile,
}

async fn fixture(before: &str) -> Fixture {
    let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let conf = tempfile::NamedTempFile::new().unwrap();
    fs::write(conf.path(), format!("{before}nameserver 127.0.0.1\n")).unwrap();
    let resolvers = Resolvers::of(conf.path()).on_port(resolver.local_addr().unwrap().port());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(socket.local_addr().unwrap()).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(relay(socket, Arc::new(resolvers)));
    Fixture {
        client,
        resolver,
        _relay: tasks,
        _conf: conf,
    }
}

async fn receive_from(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0_u8; 2048];
    let (length, from) = timeout(Duration::from_secs(5), socket.recv_from(&mut buffer))
        .await
        .expect("an answer in time")
        .unwrap();
    (buffer[..length].to_vec(), from)
}

#[test]
fn resolvers_are_read_as_resolv_conf_has_them() {
    let text = "# nameserver 9.9.9.9\nsearch lan\nnameserver 127.0.0.53\n\tnameserver\t2001:db8::1 \n\
                nameserver\nnameserver fe80::1%lo\nnameserver 1.1.1.1\nnameservers 8.8.8.8\n";
    let found: Vec<String> = parse(text, 53).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        ["127.0.0.53:53", "[2001:db8::1]:53", "[fe80::1%1]:53"]
    );
    assert_eq!(parse("", 53), ["127.0.0.1:53".parse().unwrap()]);
}

#[test]
fn a_changed_file_is_read_again() {
    let conf = tempfile::NamedTempFile::new().unwrap();
    fs::write(conf.path(), "nameserver 192.0.2.1\n").unwrap();
    let resolvers = Resolvers::of(conf.path());
    assert_eq!(resolvers.current(), ["192.0.2.1:53".parse().unwrap()]);
    fs::write(conf.path(), "nameserver 192.0.2.10\n").unwrap();
    assert_eq!(resolvers.current(), ["192.0.2.10:53".parse().unwrap()]);
}

#[tokio::test]
async fn questions_and_answers_pass_unchanged() {
    let f = fixture("").await;
    let question = message(7, false, b"example");
    f.client.send(&question).await.unwrap();
    let (received, from) = receive_from(&f.resolver).await;
    assert_eq!(received, question);
    let answer = message(7, true, b"192.0.2.1");
    f.resolver.send_to(&answer, from).await.unwrap();
    assert_eq!(receive_from(&f.client).await.0, answer);
}

#[tokio::test]
async fn garbage_is_dropped_on_both_sides_and_harms_nothing() {
    let f = fixture("").await;
    f.client.send(b"").await.unwrap();
    f.client.send(b"short").await.unwrap();
    f.client
        .send(&message(1, true, b"no question"))
        .await
        .unwrap();
    f.client
        .send(&message(2, false, b"a question"))
        .await
        .unwrap();
    let (received, from) = receive_from(&f.resolver).await;
    assert_eq!(received, message(2, false, b"a question"));
    f.resolver.send_to(b"x", from).await.unwrap();
    f.resolver
        .send_to(&message(3, true, b"other id"), from)
        .await
        .unwrap();
    let answer = message(2, true, b"right");
    f.resolver.send_to(&answer, from).await.unwrap();
    assert_eq!(receive_from(&f.client).await.0, answer);
}

#[tokio::test]
async fn the_next_resolver_is_asked_when_one_refuses() {
    // Nothing listens on 127.0.0.2 at the fixture's port: the kernel answers at once.
    let f = fixture("nameserver 127.0.0.2\n").await;
    f.client.send(&message(9, false, b"")).await.unwrap();
    let (_, from) = receive_from(&f.resolver).await;
    f.resolver
        .send_to(&message(9, true, b""), from)
        .await
        .unwrap();
    assert_eq!(receive_from(&f.client).await.0, message(9, true, b""));
}

#[tokio::test]
async fn questions_beyond_the_bound_are_dropped_not_queued() {
    let f = fixture("").await;
    for id in 0..300 {
        f.client.send(&message(id, false, b"")).await.unwrap();
        // One at a time, so that no socket buffer overflows.
        if usize::from(id) < IN_FLIGHT_MAX {
            receive_from(&f.resolver).await;
        }
    }
    let mut buffer = [0_u8; 64];
    let more = timeout(
        Duration::from_millis(200),
        f.resolver.recv_from(&mut buffer),
    )
    .await;
    assert!(more.is_err(), "a question beyond the bound was passed on");
}
