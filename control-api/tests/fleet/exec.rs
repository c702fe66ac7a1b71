//! An exec over a WebSocket, as API server, kubelet and runtime do it together: the connection's end closes the program's
//! standard input, and does nothing else to it.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::api_server::Cluster;
use crate::pod::Pod;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Switches to a WebSocket, and runs the command over it.
pub(crate) fn upgrade(
    mut request: Request,
    words: Vec<String>,
    pod: Arc<Pod>,
    cluster: &Arc<Cluster>,
) -> Response {
    assert_eq!(words[0], "/usr/local/bin/weirctl");
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes();
    let accept = derive_accept_key(key);
    let protocol = *cluster.protocol.lock().unwrap();
    let offered = request.headers()[header::SEC_WEBSOCKET_PROTOCOL]
        .to_str()
        .unwrap();
    assert!(offered.contains(protocol), "{offered}");
    let upgraded = hyper::upgrade::on(&mut request);
    let cluster = Arc::clone(cluster);
    tokio::spawn(async move {
        let upgraded = TokioIo::new(upgraded.await.unwrap());
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
        run(socket, &words, &pod).await;
        cluster.ended.send_modify(|ended| *ended += 1);
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(Body::empty())
        .unwrap()
}

async fn run(socket: Socket, words: &[String], pod: &Pod) {
    let mut child = spawn(words, pod);
    let stdin = child.stdin.take().unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (sink, mut messages) = socket.split();
    let sink = Mutex::new(sink);
    let input = async {
        let mut stdin = Some(stdin);
        while let Some(Ok(message)) = messages.next().await {
            receive(&message, &mut stdin).await;
        }
        drop(stdin);
        std::future::pending::<()>().await;
    };
    let output = async {
        tokio::join!(pump(stdout, 1, &sink), pump(stderr, 2, &sink));
        child.wait().await.unwrap()
    };
    let status = tokio::select! {
        status = output => status,
        () = input => unreachable!(),
    };
    let mut last = vec![3];
    last.extend(ended(status).to_string().as_bytes());
    let mut sink = sink.lock().await;
    drop(sink.send(Message::binary(last)).await);
    drop(sink.close().await);
}

fn spawn(words: &[String], pod: &Pod) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
    command
        .args(&words[1..])
        .env("WEIR_CONTROL_SOCKET", &pod.socket);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

async fn receive(message: &Message, stdin: &mut Option<ChildStdin>) {
    let Message::Binary(bytes) = message else {
        return;
    };
    match bytes.split_first() {
        // The program may have ended without reading.
        Some((0, rest)) => {
            if let Some(stdin) = stdin {
                drop(stdin.write_all(rest).await);
                drop(stdin.flush().await);
            }
        }
        Some((255, [0])) => *stdin = None,
        other => panic!("{other:?}"),
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    channel: u8,
    sink: &Mutex<SplitSink<Socket, Message>>,
) {
    let mut buffer = [0; 1000];
    loop {
        let read = from.read(&mut buffer).await.unwrap();
        if read == 0 {
            return;
        }
        let mut message = vec![channel];
        message.extend_from_slice(&buffer[..read]);
        drop(sink.lock().await.send(Message::binary(message)).await);
    }
}

fn ended(status: ExitStatus) -> Value {
    if status.success() {
        return json!({"metadata": {}, "status": "Success"});
    }
    let code = status.code().unwrap_or(137).to_string();
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code}]},
    })
}
