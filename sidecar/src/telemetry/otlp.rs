//! Sends spans to a collector without ever waiting for it.
//!
//! ```text
//! worker threads                 | aux thread
//! SpanQueue::offer  --bounded--> | SpanExport::run: gather, convert, export with a timeout
//! ```
//!
//! A worker only tries to put a call into the queue: when the collector is gone, slow or hostile the queue is full, and the
//! spans are dropped and counted. Sockets, conversion and retries are on the aux thread alone. A sleeping exporter is not
//! woken for each call, only when a batch is full: that saves the worker a system call a span.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{Notify, mpsc, watch};

use super::kept::KeptCall;
use super::metrics::{Metrics, SpanDrop};
use super::settings::Export;
use super::spans;

mod exporter;

/// Longest that the end of the process waits for spans to reach the collector.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Makes the two ends of the pipeline.
#[must_use]
pub fn pipeline(export: Export, metrics: Arc<Metrics>) -> (SpanQueue, SpanExport) {
    // The channel's bound is in calls, of which each has at least one span: the backlog's bound is reached first.
    let (sender, receiver) = mpsc::channel(export.batch.queue_spans_max);
    let backlog = Arc::new(Backlog {
        spans: AtomicUsize::new(0),
        batch_full: Notify::new(),
        spans_max: export.batch.queue_spans_max,
        batch_spans_max: export.batch.batch_spans_max,
    });
    let queue = SpanQueue {
        sender,
        backlog: backlog.clone(),
        metrics: metrics.clone(),
    };
    let export = SpanExport {
        receiver,
        backlog,
        metrics,
        export,
        scope: InstrumentationScope::builder("weir")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
        collector: Collector::Up,
    };
    (queue, export)
}

/// Spans that were taken and have neither been exported nor given up.
struct Backlog {
    spans: AtomicUsize,
    batch_full: Notify,
    spans_max: usize,
    batch_spans_max: usize,
}

impl Backlog {
    /// Reserves room for `spans` more, if there is any.
    fn reserve(&self, spans: usize) -> bool {
        let before = self.spans.fetch_add(spans, Relaxed);
        let after = before.saturating_add(spans);
        if after > self.spans_max {
            self.release(spans);
            return false;
        }
        if before < self.batch_spans_max && after >= self.batch_spans_max {
            self.batch_full.notify_one();
        }
        true
    }

    fn release(&self, spans: usize) {
        self.spans.fetch_sub(spans, Relaxed);
    }
}

/// The workers' end.
pub struct SpanQueue {
    sender: mpsc::Sender<KeptCall>,
    backlog: Arc<Backlog>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanQueue").finish_non_exhaustive()
    }
}

impl SpanQueue {
    /// Puts a call into the queue, or drops and counts it. Never waits.
    pub fn offer(&self, call: KeptCall) {
        let spans = spans::count(&call.record);
        let dropped = if !self.backlog.reserve(spans) {
            SpanDrop::QueueFull
        } else if self.sender.try_send(call).is_err() {
            self.backlog.release(spans);
            SpanDrop::Shutdown
        } else {
            return;
        };
        self.metrics.spans_dropped(dropped, counted(spans));
    }
}

/// The exporter's end: one task of the aux runtime.
pub struct SpanExport {
    receiver: mpsc::Receiver<KeptCall>,
    backlog: Arc<Backlog>,
    metrics: Arc<Metrics>,
    export: Export,
    scope: InstrumentationScope,
    collector: Collector,
}

impl fmt::Debug for SpanExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanExport")
            .field("export", &self.export)
            .finish_non_exhaustive()
    }
}

/// Whether the last export succeeded: only changes are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collector {
    Up,
    Down,
}

impl SpanExport {
    /// Exports until `stop` is ready, and then for at most [`FLUSH_MAX`] what still waits.
    ///
    /// Must run inside a tokio runtime with IO and time, and not on a worker's: it opens sockets and resolves names.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        let (backlog, metrics) = (self.backlog.clone(), self.metrics.clone());
        let (stopped, stopping) = watch::channel(false);
        let work = async move {
            match exporter::build(&self.export) {
                Ok(exporter) => self.work(&exporter, stopping).await,
                Err(error) => tracing::error!(%error, "spans cannot be exported"),
            }
        };
        tokio::pin!(work);
        tokio::select! {
            biased;
            () = &mut work => {}
            () = stop => {
                stopped.send_replace(true);
                if tokio::time::timeout(FLUSH_MAX, &mut work).await.is_err() {
                    tracing::warn!("the collector did not take all spans before the end");
                }
            }
        }
        let left = backlog.spans.load(Relaxed);
        metrics.spans_dropped(SpanDrop::Shutdown, counted(left));
    }

    async fn work(&mut self, exporter: &SpanExporter, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                // An error means that the sender is gone, which ends the work as well.
                _ = stopping.wait_for(|stop| *stop) => self.receiver.close(),
                () = self.backlog.batch_full.notified() => {}
                () = tokio::time::sleep(self.export.batch.delay) => {}
            }
            while let Some(batch) = self.next_batch() {
                self.send(exporter, batch).await;
            }
            if self.receiver.is_closed() {
                return;
            }
        }
    }

    /// The spans of the calls that wait, about as many as one request may carry. None: no call waits.
    fn next_batch(&mut self) -> Option<Vec<SpanData>> {
        let mut batch = Vec::new();
        while batch.len() < self.export.batch.batch_spans_max {
            match self.receiver.try_recv() {
                Ok(call) => spans::append(&call, &self.scope, &mut batch),
                Err(_) => break,
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    async fn send(&mut self, exporter: &SpanExporter, batch: Vec<SpanData>) {
        let spans = batch.len();
        let sent = tokio::time::timeout(self.export.batch.export_timeout, exporter.export(batch));
        let error = match sent.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        self.backlog.release(spans);
        match error {
            None => self.metrics.spans_exported(counted(spans)),
            Some(_) => self
                .metrics
                .spans_dropped(SpanDrop::ExportFailed, counted(spans)),
        }
        self.note(error);
    }

    fn note(&mut self, error: Option<String>) {
        let endpoint = self.export.endpoint.as_str();
        match (self.collector, error) {
            // Up => Down
            (Collector::Up, Some(error)) => {
                tracing::warn!(
                    endpoint,
                    error,
                    "the collector takes no spans; they are dropped until it does"
                );
                self.collector = Collector::Down;
            }
            // Down => Up
            (Collector::Down, None) => {
                tracing::info!(endpoint, "the collector takes spans again");
                self.collector = Collector::Up;
            }
            (Collector::Up, None) | (Collector::Down, Some(_)) => {}
        }
    }
}

fn counted(spans: usize) -> u64 {
    u64::try_from(spans).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
