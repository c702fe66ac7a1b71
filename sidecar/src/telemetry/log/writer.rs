//! Writes lines from a thread of its own, so that a slow standard error holds up nobody.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::telemetry::metrics::Metrics;

/// Most lines that wait for standard error; some 300 bytes each.
const LINES_MAX: usize = 1024;

/// Longest that [`Writer::flush`] waits.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Hands lines to the writer thread. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    lines: SyncSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// Starts the thread, which lives as long as the process.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let (lines, queue) = sync_channel(LINES_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = waiting.clone();
        thread::Builder::new()
            .name("weir-log".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || write_all(&queue, output, &written))?;
        Ok(Self {
            lines,
            waiting,
            metrics,
        })
    }

    /// Waits until all lines are written, or for [`FLUSH_MAX`].
    pub(super) fn flush(&self) {
        let step = Duration::from_millis(1);
        let mut left = FLUSH_MAX;
        while self.waiting.load(Ordering::Acquire) > 0 && !left.is_zero() {
            thread::sleep(step);
            left = left.saturating_sub(step);
        }
    }
}

fn write_all(queue: &Receiver<Vec<u8>>, mut output: impl Write, waiting: &AtomicUsize) {
    while let Ok(line) = queue.recv() {
        // There is nowhere to report that standard error is gone.
        drop(output.write_all(&line));
        waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Write for &Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.metrics.log_suppressed();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Writer {
    type Writer = &'w Writer;

    fn make_writer(&'w self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _released = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_costs_lines_and_holds_nobody_up() {
        let metrics = Arc::new(Metrics::default());
        let (release, stuck) = sync_channel(0);
        let writer = Writer::start(Stuck(stuck), metrics.clone()).unwrap();
        for _ in 0..3 * LINES_MAX {
            (&writer).write_all(b"line\n").unwrap();
        }
        let kept = 3 * LINES_MAX - usize::try_from(metrics.log_suppressed_total()).unwrap();
        assert!((LINES_MAX..=LINES_MAX + 1).contains(&kept), "{kept}");
        drop(release);
        writer.flush();
        assert_eq!(writer.waiting.load(Ordering::Acquire), 0);
    }
}
