//! Who may call, and how the socket is made.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;

use control_api::server::{BindError, Options, Server, TcpOptions};
use control_api::store::{Sources, Store};

use crate::support::{Answer, Running, exchange, request};

#[tokio::test]
async fn a_user_who_is_not_on_the_list_gets_403_and_is_counted() {
    let uid = nix::unistd::geteuid().as_raw();
    let server = Running::with(|options| options.uids = vec![uid + 1]);
    for line in ["GET /v1/policy", "PUT /v1/policy", "GET /nowhere"] {
        let answer = server.http(line, &["If-Match: *"], "{}").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (403, "forbidden"),
            "{line}"
        );
        assert!(
            answer.body.contains(&format!("uid {uid} is not allowed")),
            "{answer:?}"
        );
    }
    assert_eq!(server.counts.view().refused_callers, 3);
    assert_eq!(server.store.current().revision, 1);
}

#[tokio::test]
async fn root_and_the_own_user_may_call() {
    let server = Running::start();
    let answer = server.http("GET /v1/policy", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(server.counts.view().refused_callers, 0);
    assert_eq!(server.counts.view().requests, 1);
}

#[tokio::test]
#[ignore = "needs root, to become another user; the refusal itself is covered above"]
async fn another_user_of_the_machine_is_refused() {
    let server = Running::start();
    // The socket is open to everybody here, so that it is the user id alone that decides.
    fs::set_permissions(server.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&server.socket, fs::Permissions::from_mode(0o666)).unwrap();
    let weirctl = server.dir.path().join("weirctl");
    fs::copy(env!("CARGO_BIN_EXE_weirctl"), &weirctl).unwrap();
    let mut command = Command::new(weirctl);
    command.arg("--socket").arg(&server.socket).arg("status");
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("uid 65534 is not allowed"), "{error}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(server.counts.view().refused_callers, 1);
}

fn store() -> Arc<Store> {
    Store::open(Sources::default()).0
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_goes_with_the_server() {
    let server = Running::start();
    let socket = server.socket.clone();
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o660);
    let dir = server.stop().await;
    assert!(!socket.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_socket_that_a_killed_process_left_behind_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let proxy = Arc::clone(&Running::start().proxy);
    let server = Server::bind(Options::at(socket.clone()), store(), proxy).unwrap();
    // Bound but never served: what was made is removed all the same.
    drop(server);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_socket_that_answers_and_a_file_that_is_none_are_left_alone() {
    let server = Running::start();
    let proxy = || Arc::clone(&server.proxy) as _;
    let taken = Server::bind(Options::at(server.socket.clone()), store(), proxy());
    assert!(matches!(taken.unwrap_err(), BindError::InUse(_)));
    let file = server.dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    let refused = Server::bind(Options::at(file.clone()), store(), proxy());
    assert!(matches!(refused.unwrap_err(), BindError::NotASocket(_)));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let nowhere = Options::at(server.dir.path().join("absent/control.sock"));
    let refused = Server::bind(nowhere, store(), proxy());
    assert!(matches!(refused.unwrap_err(), BindError::Unix { .. }));
    let long = Options::at(server.dir.path().join("s".repeat(108)));
    let refused = Server::bind(long, store(), proxy());
    assert!(matches!(refused.unwrap_err(), BindError::TooLong(_)));
    assert_eq!(server.http("GET /v1/policy", &[], "").await.status, 200);
}

async fn over_tcp(port: u16, headers: &'static [&'static str]) -> Answer {
    let exchanged = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        write!(
            stream,
            "GET /v1/policy HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Answer::of(&text)
    });
    exchanged.await.unwrap()
}

#[tokio::test]
async fn over_tcp_a_caller_needs_the_token_and_a_loopback_host() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    fs::write(&token_file, "0123456789abcdef\n").unwrap();
    let server = Running::with(|options| {
        options.tcp = Some(TcpOptions {
            address: "127.0.0.1:0".parse().unwrap(),
            token_file: token_file.clone(),
        });
    });
    let port = server.tcp_port;
    let good: &[&str] = &[
        "Host: localhost:19404",
        "Authorization: Bearer 0123456789abcdef",
    ];
    assert_eq!(over_tcp(port, good).await.status, 200);
    let without = over_tcp(port, &["Host: localhost"]).await;
    assert_eq!(
        (without.status, without.problem().as_str()),
        (401, "unauthorized")
    );
    assert!(without.has_header("www-authenticate: bearer"));
    let wrong = over_tcp(
        port,
        &["Host: localhost", "Authorization: Bearer 0123456789abcdeF"],
    );
    assert_eq!(wrong.await.status, 401);
    let elsewhere: &[&str] = &[
        "Host: evil.example",
        "Authorization: Bearer 0123456789abcdef",
    ];
    assert_eq!(over_tcp(port, elsewhere).await.status, 403);
    let browser: &[&str] = &[
        "Host: localhost",
        "Origin: http://evil.example",
        "Authorization: Bearer 0123456789abcdef",
    ];
    assert_eq!(over_tcp(port, browser).await.status, 403);
    fs::write(&token_file, "fedcba9876543210").unwrap();
    assert_eq!(
        over_tcp(port, good).await.status,
        401,
        "the token was changed"
    );
    fs::remove_file(&token_file).unwrap();
    assert_eq!(over_tcp(port, good).await.status, 401, "the token is gone");
}

#[tokio::test]
async fn tcp_is_refused_where_it_could_be_reached_or_has_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = Arc::clone(&Running::start().proxy);
    let bind = |address: &str, token: &str| {
        let token_file = dir.path().join("token");
        fs::write(&token_file, token).unwrap();
        let mut options = Options::at(dir.path().join("control.sock"));
        options.tcp = Some(TcpOptions {
            address: address.parse().unwrap(),
            token_file,
        });
        Server::bind(options, store(), Arc::clone(&proxy) as _).unwrap_err()
    };
    let long = "0123456789abcdef";
    assert!(matches!(bind("0.0.0.0:0", long), BindError::NotLoopback(_)));
    assert!(matches!(
        bind("127.0.0.1:0", "short"),
        BindError::Token { .. }
    ));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(matches!(bind(&address, long), BindError::Tcp { .. }));
}

#[tokio::test]
async fn those_who_may_not_call_cannot_keep_out_those_who_may() {
    let server = Running::with(|options| options.uids = vec![u32::MAX - 1]);
    let idle: Vec<_> = (0..20)
        .map(|_| std::os::unix::net::UnixStream::connect(&server.socket).unwrap())
        .collect();
    // The twentieth place of strangers is not there; asking makes sure that all of them have been looked at.
    let socket = server.socket.clone();
    let late = tokio::task::spawn_blocking(move || {
        exchange(&socket, request("GET /v1/policy", &[], "").as_bytes())
    });
    assert_eq!(late.await.unwrap(), "");
    assert_eq!(server.counts.view().refused_connections, 13);
    drop(idle);
}
