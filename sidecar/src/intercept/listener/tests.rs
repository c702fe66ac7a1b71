use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::memory::Memory;

fn connections(connections_max: usize) -> Arc<Connections> {
    Arc::new(Connections::new(
        connections_max,
        Arc::default(),
        Arc::default(),
    ))
}

fn bound(addr: &str) -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind(addr).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Runs the accept loop on made-up answers, and reports how often it asked.
async fn accepting(
    answers: impl Fn(usize) -> Poll<io::Result<(TcpStream, SocketAddr)>>,
    lasting: Duration,
) -> usize {
    let asked = AtomicUsize::new(0);
    let accept = |_: &mut Context<'_>| answers(asked.fetch_add(1, Ordering::Relaxed));
    let connections = connections(10);
    let accepting = Accepting {
        connections: &connections,
    };
    let mut tasks = JoinSet::new();
    let running = accepting.run(accept, &mut tasks, |_, _| async {});
    assert!(tokio::time::timeout(lasting, running).await.is_err());
    asked.into_inner()
}

fn failure(errno: Errno) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    Poll::Ready(Err(errno.into()))
}

#[tokio::test(start_paused = true)]
async fn shortage_pauses_accepting_longer_each_time_up_to_a_second() {
    for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS] {
        let asked = accepting(|_| failure(errno), Duration::from_secs(10)).await;
        // 10, 20, .. 640 ms take 1.27 s, then once a second.
        assert_eq!(asked, 16, "{errno}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_gone_already_do_not_pause_accepting() {
    let answers = |asked| match asked {
        0..10 => failure(Errno::ECONNABORTED),
        _ => Poll::Pending,
    };
    // A pause would take at least 10 ms.
    assert!(accepting(answers, Duration::from_millis(1)).await > 10);
}

#[tokio::test(start_paused = true)]
async fn an_endless_row_of_gone_connections_does_not_spin() {
    let gone = |_| failure(Errno::ECONNABORTED);
    let asked = accepting(gone, Duration::from_secs(1)).await;
    assert!(asked < 80, "{asked}");
}

#[tokio::test]
async fn sockets_of_both_families_are_served() {
    let (v4, v4_addr) = bound("127.0.0.1:0");
    let (v6, v6_addr) = bound("[::1]:0");
    let listener = Listener::new(vec![v4, v6], connections(10)).unwrap();
    let (served, mut serving) = mpsc::channel(10);
    let serve = move |socket: TcpStream, peer| {
        let served = served.clone();
        async move {
            drop(socket);
            served.send(peer).await.unwrap();
        }
    };
    let running = tokio::spawn(listener.run(std::future::pending(), serve));
    for addr in [v4_addr, v6_addr, v4_addr] {
        let app = TcpStream::connect(addr).await.unwrap();
        assert_eq!(serving.recv().await.unwrap(), app.local_addr().unwrap());
    }
    running.abort();
}

#[tokio::test]
async fn at_most_so_many_connections_are_served_at_a_time() {
    let (socket, addr) = bound("127.0.0.1:0");
    let listener = Listener::new(vec![socket], connections(2)).unwrap();
    let (served, mut serving) = mpsc::channel(10);
    let serve = move |socket: TcpStream, _| {
        let (end, ended) = oneshot::channel::<()>();
        let served = served.clone();
        async move {
            served.send(end).await.unwrap();
            drop((ended.await, socket));
        }
    };
    let running = tokio::spawn(listener.run(std::future::pending(), serve));
    let mut apps = Vec::new();
    for _ in 0..3 {
        apps.push(TcpStream::connect(addr).await.unwrap());
    }
    let first = serving.recv().await.unwrap();
    let _second = serving.recv().await.unwrap();
    let brief = Duration::from_millis(50);
    let third = tokio::time::timeout(brief, serving.recv()).await;
    assert!(third.is_err(), "three are served at a time");
    drop(first);
    serving.recv().await.unwrap();
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn one_connection_a_second_is_accepted_while_memory_is_short() {
    let memory = Arc::<Memory>::default();
    let connections = Arc::new(Connections::new(10, Arc::clone(&memory), Arc::default()));
    let accepting = Accepting {
        connections: &connections,
    };
    memory.set(true);
    let asked = AtomicUsize::new(0);
    let accept = |_: &mut Context<'_>| {
        asked.fetch_add(1, Ordering::Relaxed);
        Poll::Pending
    };
    let mut tasks = JoinSet::new();
    let mut running = std::pin::pin!(accepting.run(accept, &mut tasks, |_, _| async {}));
    let moment = Duration::from_millis(999);
    assert!(
        tokio::time::timeout(moment, running.as_mut())
            .await
            .is_err()
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert!(
        tokio::time::timeout(moment, running.as_mut())
            .await
            .is_err()
    );
    assert!(asked.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn a_stop_refuses_new_connections_and_waits_for_the_open_ones() {
    let (socket, addr) = bound("127.0.0.1:0");
    let listener = Listener::new(vec![socket], connections(10)).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (accepted, mut accepting) = mpsc::channel(1);
    let serve = move |mut socket: TcpStream, _| {
        let accepted = accepted.clone();
        async move {
            accepted.send(()).await.unwrap();
            let _the_application_ends_it = socket.read(&mut [0]).await;
        }
    };
    let stopped = async {
        stopped.await.unwrap();
    };
    let running = tokio::spawn(listener.run(stopped, serve));
    let app = TcpStream::connect(addr).await.unwrap();
    accepting.recv().await.unwrap();
    stop.send(()).unwrap();
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!running.is_finished());
    drop(app);
    running.await.unwrap();
}

#[tokio::test]
async fn dropping_the_listener_ends_its_connections() {
    let (socket, addr) = bound("127.0.0.1:0");
    let listener = Listener::new(vec![socket], connections(10)).unwrap();
    let (accepted, mut accepting) = mpsc::channel(1);
    let serve = move |socket: TcpStream, _| {
        let accepted = accepted.clone();
        async move {
            accepted.send(()).await.unwrap();
            std::future::pending::<()>().await;
            drop(socket);
        }
    };
    let running = tokio::spawn(listener.run(std::future::pending(), serve));
    let mut app = TcpStream::connect(addr).await.unwrap();
    accepting.recv().await.unwrap();
    running.abort();
    assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_panic_in_one_connection_leaves_the_others_alone() {
    let (socket, addr) = bound("127.0.0.1:0");
    let listener = Listener::new(vec![socket], connections(10)).unwrap();
    let mut number = 0;
    let (served, mut serving) = mpsc::channel(10);
    let serve = move |_, _| {
        number += 1;
        let (number, served) = (number, served.clone());
        async move {
            assert_ne!(number, 1, "the first one fails");
            served.send(number).await.unwrap();
        }
    };
    let running = tokio::spawn(listener.run(std::future::pending(), serve));
    for _ in 0..2 {
        TcpStream::connect(addr).await.unwrap();
    }
    assert_eq!(serving.recv().await, Some(2));
    running.abort();
}
