//! The pipeline against real receivers on real sockets.

mod receiver;

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::*;
use crate::telemetry::fixture;
use crate::telemetry::settings::{Batch, Compression, Protocol, Settings};
use receiver::{Answer, Received, Receiver};

const PATIENCE: Duration = Duration::from_secs(20);

fn export_to(endpoint: &str, protocol: Protocol) -> Export {
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop%201"),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=shop-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let get = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let mut export = Settings::from_env(get, "shop").unwrap().export.unwrap();
    export.protocol = protocol;
    export
}

/// A running pipeline, stopped by [`Running::stop`].
struct Running {
    queue: SpanQueue,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(export: Export) -> Self {
        let metrics = Arc::new(Metrics::default());
        let (queue, export) = pipeline(export, metrics.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(export.run(async {
            drop(stopped.await);
        }));
        Self {
            queue,
            metrics,
            stop,
            task,
        }
    }

    fn offer(&self, calls: usize) {
        for _ in 0..calls {
            self.queue.offer(KeptCall::from(fixture::answered_call()));
        }
    }

    async fn stop(self) -> Arc<Metrics> {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
        self.metrics
    }

    /// Waits until as many spans as this were given up because the export failed.
    async fn until_failed(&self, spans: u64) {
        let failed = || self.metrics.spans_dropped_for(SpanDrop::ExportFailed);
        timeout(PATIENCE, async {
            while failed() < spans {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
}

async fn next(receiver: &mut Receiver) -> Received {
    timeout(PATIENCE, receiver.requests.recv())
        .await
        .unwrap()
        .unwrap()
}

async fn arrives_whole(protocol: Protocol) {
    let mut collector = Receiver::start(protocol, Answer::Accept).await;
    let running = Running::start(export_to(&collector.endpoint, protocol));
    running.queue.offer(KeptCall::from(fixture::retried_call()));
    let received = next(&mut collector).await;
    assert_eq!(received.header("x-tenant"), Some("shop 1"));
    let resource = &received.request.resource_spans[0];
    let attributes = &resource.resource.as_ref().unwrap().attributes;
    let keys: Vec<_> = attributes.iter().map(|pair| pair.key.as_str()).collect();
    for key in ["service.name", "k8s.pod.name", "telemetry.sdk.name"] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    let spans = &resource.scope_spans[0].spans;
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["call GET", "GET", "queue", "GET"]);
    assert_eq!(spans[0].trace_id, [0xab; 16]);
    assert_eq!(spans[0].span_id, [0x01; 8]);
    assert_eq!(spans[3].span_id, [0x12; 8]);
    assert_eq!(spans[3].parent_span_id, [0x01; 8]);
    let metrics = running.stop().await;
    assert_eq!(metrics.spans_exported_total(), 4);
}

#[tokio::test]
async fn spans_arrive_over_grpc() {
    arrives_whole(Protocol::Grpc).await;
}

#[tokio::test]
async fn spans_arrive_over_http() {
    arrives_whole(Protocol::HttpProtobuf).await;
}

#[tokio::test]
async fn spans_arrive_compressed() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let mut collector = Receiver::start(protocol, Answer::Accept).await;
        let mut export = export_to(&collector.endpoint, protocol);
        export.compression = Compression::Gzip;
        let running = Running::start(export);
        running.offer(1);
        let received = next(&mut collector).await;
        assert_eq!(received.encoding(), Some("gzip"));
        running.stop().await;
    }
}

#[tokio::test]
async fn what_waits_at_the_end_is_flushed() {
    let mut receiver = Receiver::start(Protocol::Grpc, Answer::Accept).await;
    let mut export = export_to(&receiver.endpoint, Protocol::Grpc);
    export.batch.delay = Duration::from_hours(1);
    let running = Running::start(export);
    running.offer(3);
    let metrics = running.stop().await;
    assert_eq!(metrics.spans_exported_total(), 6);
    assert_eq!(next(&mut receiver).await.spans(), 6);
}

#[tokio::test]
async fn a_full_batch_does_not_wait_for_the_delay() {
    let mut receiver = Receiver::start(Protocol::HttpProtobuf, Answer::Accept).await;
    let mut export = export_to(&receiver.endpoint, Protocol::HttpProtobuf);
    export.batch.delay = Duration::from_hours(1);
    export.batch.batch_spans_max = 8;
    let running = Running::start(export);
    running.offer(4);
    assert_eq!(next(&mut receiver).await.spans(), 8);
    running.stop().await;
}

#[tokio::test]
async fn a_collector_that_is_down_costs_the_spans_and_nothing_else() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", closed.local_addr().unwrap());
        drop(closed);
        let mut export = export_to(&endpoint, protocol);
        export.timeout = Duration::from_millis(100);
        let running = Running::start(export);
        running.offer(2);
        running.until_failed(4).await;
        assert_eq!(running.stop().await.spans_exported_total(), 0);
    }
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_spans_again() {
    let mut receiver = Receiver::start(Protocol::HttpProtobuf, Answer::Status(503)).await;
    let mut export = export_to(&receiver.endpoint, Protocol::HttpProtobuf);
    export.timeout = Duration::from_millis(50);
    let running = Running::start(export);
    running.offer(1);
    running.until_failed(2).await;
    receiver.answer(Answer::Accept);
    running.offer(1);
    while next(&mut receiver).await.answer != Answer::Accept {}
    assert_eq!(running.stop().await.spans_exported_total(), 2);
}

#[tokio::test]
async fn a_collector_that_never_answers_fills_a_bounded_queue_and_the_end_waits_a_bounded_time() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let silent = Receiver::start(protocol, Answer::Never).await;
        let mut export = export_to(&silent.endpoint, protocol);
        export.batch = Batch {
            delay: Duration::from_millis(1),
            queue_spans_max: 100,
            batch_spans_max: 10,
            ..export.batch
        };
        let running = Running::start(export);
        let before = Instant::now();
        running.offer(10_000);
        assert!(before.elapsed() < Duration::from_secs(5), "offering waited");
        let full = running.metrics.spans_dropped_for(SpanDrop::QueueFull);
        assert_eq!(full, 20_000 - 100);
        let before = Instant::now();
        let metrics = running.stop().await;
        assert!(before.elapsed() < FLUSH_MAX + Duration::from_secs(3));
        assert_eq!(metrics.spans_dropped_for(SpanDrop::Shutdown), 100);
    }
}

#[tokio::test]
async fn a_collector_that_answers_garbage_is_counted_as_failed() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let garbage = receiver::garbage().await;
        let mut export = export_to(&garbage, protocol);
        export.timeout = Duration::from_millis(200);
        let running = Running::start(export);
        running.offer(1);
        running.until_failed(2).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn a_huge_answer_is_refused_rather_than_kept() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let receiver = Receiver::start(protocol, Answer::PartialSuccess(8 << 20)).await;
        let running = Running::start(export_to(&receiver.endpoint, protocol));
        running.offer(1);
        running.until_failed(2).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn a_partial_success_is_not_sent_again() {
    let mut receiver = Receiver::start(Protocol::Grpc, Answer::PartialSuccess(10)).await;
    let running = Running::start(export_to(&receiver.endpoint, Protocol::Grpc));
    running.offer(1);
    next(&mut receiver).await;
    running.stop().await;
    assert!(receiver.requests.try_recv().is_err());
}

#[test]
fn a_pipeline_whose_task_is_gone_drops_and_counts() {
    let metrics = Arc::new(Metrics::default());
    let export = export_to("http://127.0.0.1:1", Protocol::Grpc);
    let (queue, export) = pipeline(export, metrics.clone());
    drop(export);
    queue.offer(KeptCall::from(fixture::answered_call()));
    assert_eq!(metrics.spans_dropped_for(SpanDrop::Shutdown), 2);
}
