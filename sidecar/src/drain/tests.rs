use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;

/// A proxy with one open connection and a drain that can be watched.
struct Proxy {
    terminate: mpsc::Sender<()>,
    application_end: Option<tokio::sync::oneshot::Sender<()>>,
    open: Arc<AtomicUsize>,
    draining: Draining,
    running: JoinHandle<Duration>,
}

fn proxy() -> Proxy {
    let (terminate, mut terminated) = mpsc::channel(4);
    let (application_end, ended) = tokio::sync::oneshot::channel();
    let open = Arc::new(AtomicUsize::new(1));
    let (drain, draining) = channel();
    let count = Arc::clone(&open);
    let running = tokio::spawn(async move {
        let began = Instant::now();
        let sources = Sources {
            terminations: |cx: &mut Context<'_>| terminated.poll_recv(cx).map(drop),
            application_ended: async {
                if ended.await.is_err() {
                    std::future::pending::<()>().await;
                }
            },
            connections_open: || count.load(Relaxed),
        };
        run(Lifecycle::new(Settings::default()), &drain, sources).await;
        began.elapsed()
    });
    Proxy {
        terminate,
        application_end: Some(application_end),
        open,
        draining,
        running,
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_told_to_finish_only_when_the_drain_time_is_over() {
    let proxy = proxy();
    proxy.terminate.send(()).await.unwrap();
    sleep(Duration::from_secs(19)).await;
    assert!(!proxy.draining.is_started());
    sleep(Duration::from_secs(2)).await;
    assert!(proxy.draining.is_started());
    let took = proxy.running.await.unwrap();
    assert_eq!(took.as_secs(), 25);
}

#[tokio::test(start_paused = true)]
async fn an_application_without_connections_ends_it_after_the_quiet_time() {
    let proxy = proxy();
    proxy.open.store(0, Relaxed);
    proxy.terminate.send(()).await.unwrap();
    let took = proxy.running.await.unwrap();
    assert_eq!(took.as_secs(), 2);
    assert!(proxy.draining.is_started());
}

#[tokio::test(start_paused = true)]
async fn a_second_request_ends_it_at_once() {
    let proxy = proxy();
    proxy.terminate.send(()).await.unwrap();
    proxy.terminate.send(()).await.unwrap();
    assert_eq!(proxy.running.await.unwrap(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_ended_is_not_lingered_for() {
    let mut proxy = proxy();
    let application_end = proxy.application_end.take().unwrap();
    application_end.send(()).unwrap();
    proxy.draining.started().await;
    proxy.open.store(0, Relaxed);
    assert!(proxy.running.await.unwrap() < Duration::from_secs(1));
}

#[tokio::test]
async fn signals_ask_for_an_end() {
    let mut signals = Signals::listen().unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    std::future::poll_fn(|cx| signals.poll_next(cx)).await;
}
