//! A small limit of open files: calls wait for their turn, and do not fail for want of a descriptor.

use std::net::SocketAddr;

use e2e::http1::Connection;
use e2e::origin::Origin;
use e2e::scripted::Server;
use e2e::weir::Weir;

/// Far too few for the calls that are made here.
const FEW: u32 = 128;

#[test]
fn as_many_are_accepted_as_can_be_passed_on_and_the_others_wait() {
    let origin = Origin::start(&[]);
    let weir = Weir::builder().descriptors(FEW, FEW).proxy();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        origin.url("/delay/300")
    );
    let mut waiting: Vec<Connection> = (0..100)
        .map(|_| {
            let mut connection = Connection::open(weir.explicit()).expect("there is a backlog");
            connection.send(&request).expect("it is buffered");
            connection
        })
        .collect();
    for (number, connection) in waiting.iter_mut().enumerate() {
        let answer = connection.response(false).expect("an answer");
        assert_eq!(answer.status(), 200, "call {number}: {}", answer.text());
    }
    let pauses = weir.metric("weir_accept_pauses_total", &["reason=\"connections\""]);
    assert!(pauses > 0.0, "{}", weir.metrics());
}

#[test]
fn unused_connections_to_servers_make_room_for_others() {
    let server = Server::start_on("0.0.0.0:0", |stream, _| {
        let mut connection = Connection::over(stream);
        while connection.request().is_ok() {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if connection.send(answer).is_err() {
                return;
            }
        }
    });
    let weir = Weir::builder().descriptors(FEW, FEW).proxy();
    let mut client = Connection::open(weir.explicit()).expect("it listens");
    // Another server each time, as far as weir can tell.
    for number in 1..=150_u8 {
        let addr = SocketAddr::from(([127, 0, 0, number], server.addr().port()));
        let request = format!("GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n");
        let answer = client.exchange(request).expect("an answer");
        assert_eq!(answer.status(), 200, "server {number}: {}", answer.text());
    }
}

#[test]
fn weir_raises_its_own_limit_and_its_command_keeps_the_users() {
    let weir = Weir::builder().descriptors(500, 1000).run();
    let told = weir.inside().exec(&["sh", "-c", "ulimit -Sn; ulimit -Hn"]);
    assert_eq!(told.stdout, "500\n1000\n", "{told:?}");
    let limit = weir.metric("process_max_fds", &[]);
    assert!((limit - 1000.0).abs() < 0.5, "{limit}");
}
