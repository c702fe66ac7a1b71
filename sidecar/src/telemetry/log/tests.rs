use std::io::Write;
use std::sync::Mutex;

use super::*;
use crate::telemetry::fixture;

/// Lines in memory.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn lines(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }
}

impl Write for &Memory {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Memory {
    type Writer = &'w Memory;

    fn make_writer(&'w self) -> Self::Writer {
        self
    }
}

/// Runs `events` under a log of this level, and gives what it wrote.
fn logged(level: &str, events: impl FnOnce(&Log, &Arc<Metrics>)) -> Vec<serde_json::Value> {
    let (memory, metrics) = (Memory::default(), Arc::new(Metrics::default()));
    let targets = targets(level).unwrap();
    let (subscriber, handle) = subscriber(targets, Format::Json, memory.clone(), &metrics);
    let log = Log {
        level: handle,
        writer: None,
    };
    tracing::subscriber::with_default(subscriber, || events(&log, &metrics));
    memory.lines()
}

#[test]
fn an_event_is_one_json_object_with_its_fields() {
    let lines = logged("info", |_, _| {
        tracing::warn!(destination = "payments:80", tries = 3, "gone\nfor good");
    });
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["level"], "WARN");
    assert_eq!(lines[0]["message"], "gone\nfor good");
    assert_eq!(lines[0]["destination"], "payments:80");
    assert_eq!(lines[0]["tries"], 3);
    assert!(lines[0]["timestamp"].is_string());
}

#[test]
fn the_level_changes_while_the_log_runs() {
    let lines = logged("warn", |log, _| {
        tracing::info!("not yet");
        log.set_level("warn,sidecar=debug").unwrap();
        tracing::debug!("now");
        log.set_level("off").unwrap();
        tracing::error!("no more");
    });
    let messages: Vec<_> = lines.iter().map(|line| &line["message"]).collect();
    assert_eq!(messages, ["now"]);
}

#[test]
fn what_is_no_level_is_refused_and_changes_nothing() {
    for text in [
        "",
        "loud",
        "info,",
        "=info",
        "sidecar=",
        "sidecar",
        "info;debug",
    ] {
        let outcome = targets(text);
        assert_eq!(outcome.is_err(), text != "info,", "{text}");
    }
    let error = targets("loud").unwrap_err().to_string();
    assert!(
        error.contains("\"loud\"") && error.contains("expected"),
        "{error}"
    );
}

#[test]
fn the_access_log_is_off_until_it_is_named() {
    let record = fixture::retried_call();
    let on = std::cell::Cell::new(true);
    let lines = logged("trace", |log, _| {
        on.set(access_is_on());
        access(&record);
        log.set_level("warn,weir::access=info").unwrap();
        assert!(access_is_on());
        access(&record);
    });
    assert!(!on.get());
    assert_eq!(lines.len(), 1);
    let mut line = lines[0].clone();
    line["timestamp"] = "".into();
    expect_test::expect![[r#"
        {
          "timestamp": "",
          "level": "INFO",
          "message": "call",
          "trace_id": "abababababababababababababababab",
          "correlation_id": "0191b2c4-7d1a-7000-8000-000000000001",
          "protocol": "http1",
          "method": "GET",
          "path": "/v1/pay",
          "destination": "payments:80",
          "endpoint": "10.0.0.7:80",
          "route": "pay",
          "revision": 3,
          "status": 200,
          "outcome": "answered",
          "error": "",
          "attempts": 2,
          "duration_ms": 70.0,
          "queue_ms": 20.0,
          "target": "weir::access"
        }
    "#]]
    .assert_eq(&(serde_json::to_string_pretty(&line).unwrap() + "\n"));
}

#[test]
fn a_flood_of_one_kind_is_thinned_out_and_another_kind_passes() {
    let lines = logged("info", |_, metrics| {
        for _ in 0..1000 {
            tracing::error!("the same again");
        }
        tracing::error!("another");
        assert!(metrics.log_suppressed_total() > 900);
    });
    assert!(lines.len() < 100, "{}", lines.len());
    assert_eq!(lines.last().unwrap()["message"], "another");
}
