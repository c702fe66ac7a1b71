//! Finished calls, and a proxy that answers what it was told, for tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use control_api::policy::Priority;
use control_api::server::{Introspect, UnknownLogLevel};
use control_api::view;

use super::record::{
    AttemptEnd, AttemptRecord, CallRecord, Decision, Outcome, Protocol, Sampling, Verdict,
};
use crate::error::Shed;

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Answered at the first try, which did not wait.
pub(crate) fn answered_call() -> CallRecord {
    CallRecord {
        began: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        duration: millis(12),
        head_after: millis(11),
        correlation_id: http::HeaderValue::from_static("0191b2c4-7d1a-7000-8000-000000000001"),
        trace_id: [0xab; 16],
        span_id: [0x01; 8],
        parent_span_id: None,
        sampling: Sampling::Sampled,
        method: http::Method::GET,
        uri: http::Uri::from_static("http://payments/v1/pay?card=4111"),
        protocol: Protocol::Http1,
        destination: Arc::from("payments:80"),
        endpoint: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 7), 80)),
        route: Arc::from("pay"),
        revision: 3,
        priority: Priority::Normal,
        status: 200,
        grpc_status: None,
        outcome: Outcome::Answered,
        error_kind: "",
        attempts: vec![AttemptRecord {
            span_id: [0x11; 8],
            asked: millis(0),
            dispatched: Some(millis(0)),
            ended: millis(11),
            backoff: Duration::ZERO,
            end: AttemptEnd::Response {
                status: 200,
                grpc_status: None,
            },
        }],
        decisions: Vec::new(),
    }
}

/// Failed with 503 at the first try, waited 20 ms in the queue for the second, and was answered.
pub(crate) fn retried_call() -> CallRecord {
    let mut record = answered_call();
    record.duration = millis(70);
    record.attempts = vec![
        AttemptRecord {
            span_id: [0x11; 8],
            asked: millis(0),
            dispatched: Some(millis(0)),
            ended: millis(10),
            backoff: Duration::ZERO,
            end: AttemptEnd::Response {
                status: 503,
                grpc_status: None,
            },
        },
        AttemptRecord {
            span_id: [0x12; 8],
            asked: millis(30),
            dispatched: Some(millis(50)),
            ended: millis(65),
            backoff: millis(20),
            end: AttemptEnd::Response {
                status: 200,
                grpc_status: None,
            },
        },
    ];
    record.decisions = vec![Decision {
        at: millis(10),
        what: Verdict::Retried,
        reason: "status_503",
        inputs: vec![("budget_retries", 2.5), ("backoff_ms", 20.0)],
    }];
    record
}

/// Refused because the queue was full.
pub(crate) fn shed_call() -> CallRecord {
    let mut record = answered_call();
    record.sampling = Sampling::PassedOver;
    record.duration = millis(1);
    record.head_after = millis(1);
    record.status = 503;
    record.outcome = Outcome::Shed;
    record.error_kind = "queue_full";
    record.attempts = vec![AttemptRecord {
        span_id: [0x11; 8],
        asked: millis(0),
        dispatched: None,
        ended: millis(1),
        backoff: Duration::ZERO,
        end: AttemptEnd::Shed(Shed::QueueFull),
    }];
    record.decisions = vec![Decision {
        at: millis(1),
        what: Verdict::Shed,
        reason: "queue_full",
        inputs: vec![("queue_length", 64.0), ("limit", 8.0)],
    }];
    record
}

/// A proxy that answers what it was told.
#[derive(Debug, Default)]
pub(crate) struct FakeProxy {
    pub(crate) revision: u64,
    pub(crate) destinations: Vec<view::Destination>,
}

impl Introspect for FakeProxy {
    fn status(&self) -> view::Status {
        let mut status = view::Status::default();
        status.policy.revision.revision = self.revision;
        status.policy.updates.file.rejected = 1;
        status.control.refused_callers = 2;
        status
    }

    fn destinations(&self) -> Vec<view::Destination> {
        self.destinations.clone()
    }

    fn decisions(&self, _filter: &view::DecisionFilter) -> Vec<view::Decision> {
        Vec::new()
    }

    fn connections(&self) -> Vec<view::Connection> {
        Vec::new()
    }

    fn set_log_level(&self, _level: &str) -> Result<(), UnknownLogLevel> {
        Ok(())
    }
}
