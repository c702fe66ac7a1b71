//! What reached the server, remembered for the test to read.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use http::HeaderMap;
use serde_json::{Value, json};

/// Calls that are remembered one by one; later ones are only counted.
const RECORDS_MAX: usize = 100_000;

/// Counts and records of calls.
#[derive(Debug)]
pub(crate) struct Ledger {
    remembers: bool,
    calls: Cell<u64>,
    failed: Cell<u64>,
    working: Cell<u64>,
    working_max: Cell<u64>,
    records: RefCell<Vec<Value>>,
    by_id: RefCell<HashMap<String, u32>>,
}

impl Ledger {
    pub(crate) fn new(remembers: bool) -> Self {
        Self {
            remembers,
            calls: Cell::new(0),
            failed: Cell::new(0),
            working: Cell::new(0),
            working_max: Cell::new(0),
            records: RefCell::default(),
            by_id: RefCell::default(),
        }
    }

    /// Notes a call that arrived, and says the how-many-th of its `x-e2e-id` it is.
    pub(crate) fn arrived(&self, head: &http::request::Parts, body: &[u8]) -> u32 {
        self.calls.set(self.calls.get() + 1);
        if !self.remembers {
            return 0;
        }
        let id = text(&head.headers, "x-e2e-id");
        let number = match id.as_str() {
            Some(id) => {
                let mut by_id = self.by_id.borrow_mut();
                let number = by_id.entry(id.to_owned()).or_insert(0);
                *number += 1;
                *number
            }
            None => 0,
        };
        let mut records = self.records.borrow_mut();
        if records.len() < RECORDS_MAX {
            let headers: Vec<Value> = head
                .headers
                .iter()
                .map(|(name, value)| {
                    json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
                })
                .collect();
            records.push(json!({
                "id": id,
                "number": number,
                "method": head.method.as_str(),
                "target": head.uri.to_string(),
                "version": format!("{:?}", head.version),
                "headers": headers,
                "body_bytes": body.len(),
                "body_hash": hash(body),
            }));
        }
        number
    }

    /// Notes that a call is failed on purpose.
    pub(crate) fn failed(&self) {
        self.failed.set(self.failed.get() + 1);
    }

    /// Notes that work on a call begins.
    pub(crate) fn begin(&self) {
        self.working.set(self.working.get() + 1);
        self.working_max
            .set(self.working_max.get().max(self.working.get()));
    }

    /// Notes that work on a call ended.
    pub(crate) fn end(&self) {
        self.working.set(self.working.get() - 1);
    }

    /// The counts.
    pub(crate) fn stats(&self) -> Value {
        json!({
            "calls": self.calls.get(),
            "failed": self.failed.get(),
            "working": self.working.get(),
            "working_max": self.working_max.get(),
            "ids": self.by_id.borrow().len(),
        })
    }

    /// The records, in order of arrival.
    pub(crate) fn records(&self) -> Value {
        Value::Array(self.records.borrow().clone())
    }

    /// Forgets everything but the calls being worked on.
    pub(crate) fn reset(&self) {
        self.calls.set(0);
        self.failed.set(0);
        self.working_max.set(self.working.get());
        self.records.borrow_mut().clear();
        self.by_id.borrow_mut().clear();
    }
}

/// A short fingerprint of a body; the same in every process of one build.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

fn text(headers: &HeaderMap, name: &str) -> Value {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map_or(Value::Null, Value::from)
}
