//! One call's facts, established once from its request: route, correlation, trace context, deadline, priority.
//!
//! A [`Call`] is written down whole before the first layer sees it, and only its [`Trail`] grows afterwards. It carries
//! its own policy snapshot, so it never sees two revisions.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use control_api::policy::{Mode, Policy, Priority, Rule, Target};
use control_api::well_known::header;
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::destination::{Destination, Destinations};
use crate::http::authority;
use crate::http::body::Body;
use crate::telemetry::Telemetry;
use crate::telemetry::record::{
    AttemptRecord, CallRecord, Decision, End, Ended, Protocol, SpanId, Verdict,
};
use deadline::Propagated;
use fields::{Fields, Group};
use trace::Trace;

pub mod correlation;
pub mod deadline;
mod fields;
pub mod trace;

/// One request of the application, and what weir knows about it.
#[derive(Debug)]
pub struct Call {
    /// When its request head was complete.
    pub begun: Instant,
    /// What the policy says about it.
    pub rule: Arc<Rule>,
    /// The policy's revision.
    pub revision: u64,
    /// What weir knows about where it goes.
    pub destination: Arc<Destination>,
    /// The address that is dialled.
    pub endpoint: SocketAddr,
    /// Protocol, on both sides.
    pub protocol: Protocol,
    /// HTTP method.
    pub method: Method,
    /// Request target as received.
    pub uri: Uri,
    /// Correlation id.
    pub correlation_id: HeaderValue,
    /// Its place in its trace.
    pub trace: Trace,
    /// How long it may take in all, from `begun`.
    pub deadline: Option<Duration>,
    /// The deadlines that its caller brought.
    pub propagated: Propagated,
    /// How much it matters.
    pub priority: Priority,
    /// Tries of the caller itself before this request.
    pub previous_attempts: u32,
    /// Whether the application promises that repeating it is safe.
    pub has_idempotency_key: bool,
    /// Whether it asks for a tunnel (`Upgrade`, CONNECT).
    pub is_upgrade: bool,
    trail: Mutex<Trail>,
}

/// What happened to a call so far.
#[derive(Debug, Default)]
pub struct Trail {
    /// Its attempts, in order. Nearly always one, which then costs no allocation.
    pub attempts: SmallVec<[AttemptRecord; 1]>,
    /// Decisions that changed its fate, in order.
    pub decisions: Vec<Decision>,
}

/// A call on its way through the stack: its facts, and one attempt's request.
#[derive(Debug)]
pub struct Outgoing {
    /// The call.
    pub call: Arc<Call>,
    /// The request's head, as it will be sent but for what each attempt adds.
    pub head: Parts,
    /// The request's body.
    pub body: Body,
    /// The number of this try, from 1.
    pub attempt: u32,
    /// The span of this try; the server sees it as its parent.
    pub span_id: SpanId,
    /// When this try began: when it asked for its permit, and once it has one, when it got it.
    pub began: Instant,
}

/// What [`Call::begin`] reads apart from the request.
#[derive(Debug)]
pub struct Context<'a> {
    /// The policy snapshot.
    pub policy: &'a Policy,
    /// Its revision.
    pub revision: u64,
    /// What weir knows about destinations.
    pub destinations: &'a Destinations,
    /// Where the application dialled.
    pub original_destination: SocketAddr,
    /// Decides whether the call's trace is exported.
    pub telemetry: &'a Telemetry,
}

impl Call {
    /// Establishes a call's facts, and writes its correlation id into the head.
    pub fn begin(head: &mut Parts, context: &Context<'_>) -> Arc<Self> {
        let begun = Instant::now();
        let host = authority::host_or_address(head, context.original_destination);
        let port = context.original_destination.port();
        let target = Target {
            host: &host,
            port,
            path: head.uri.path(),
            method: &head.method,
        };
        let rule = Arc::clone(context.policy.rule(&target));
        let destination = context
            .destinations
            .get(&host, port, &rule, context.revision);
        let protocol = protocol(head);
        let headers = &mut head.headers;
        let fields = Fields::of(headers);
        let propagated = if fields.have(Group::Deadline) {
            Propagated::read(headers)
        } else {
            Propagated::default()
        };
        let asked = (fields.have(Group::Priority)).then(|| priority(headers));
        let sample = |sampled, id: &_| context.telemetry.sample(sampled, id);
        Arc::new(Self {
            begun,
            revision: context.revision,
            destination,
            endpoint: context.original_destination,
            protocol,
            method: head.method.clone(),
            uri: head.uri.clone(),
            deadline: deadline_of(&rule, &propagated),
            propagated,
            priority: asked.flatten().unwrap_or(rule.priority),
            previous_attempts: if fields.have(Group::Attempts) {
                previous_attempts(headers)
            } else {
                0
            },
            has_idempotency_key: fields.have(Group::IdempotencyKey),
            is_upgrade: head.method == Method::CONNECT || fields.have(Group::Upgrade),
            correlation_id: correlation::ensure(headers),
            trace: if fields.have(Group::Trace) {
                Trace::begin(headers, sample)
            } else {
                Trace::root(sample)
            },
            rule,
            trail: Mutex::default(),
        })
    }

    /// The point in time by which it must be answered.
    #[must_use]
    pub fn deadline_at(&self) -> Option<Instant> {
        self.deadline
            .and_then(|deadline| self.begun.checked_add(deadline))
    }

    /// Whether the policy's decisions are acted on for this call.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.rule.mode == Mode::Enforce
    }

    /// Writes down a decision that changed its fate.
    pub fn decided(&self, what: Verdict, reason: &'static str, inputs: Vec<(&'static str, f64)>) {
        let decision = Decision {
            at: self.begun.elapsed(),
            what,
            reason,
            inputs,
        };
        self.trail(|trail| trail.decisions.push(decision));
    }

    /// Reads or writes what happened to it so far. `change` must be short: it runs under a lock.
    pub fn trail<T>(&self, change: impl FnOnce(&mut Trail) -> T) -> T {
        change(&mut self.trail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Call {
    /// Counts the call, and hands its record to whoever wants it.
    pub fn ended(&self, end: &End, telemetry: &Telemetry) {
        let metrics = self.destination.metrics(telemetry);
        self.trail(|trail| {
            let wanted = telemetry.count(
                metrics,
                &Ended {
                    protocol: self.protocol,
                    outcome: end.outcome,
                    duration: end.duration,
                    sampling: self.trace.sampling,
                    attempts: &trail.attempts,
                    decisions: &trail.decisions,
                },
            );
            if wanted.is_any() {
                telemetry.keep(wanted, self.record(end, std::mem::take(trail)));
            }
        });
    }

    fn record(&self, end: &End, trail: Trail) -> CallRecord {
        CallRecord {
            began: SystemTime::now()
                .checked_sub(end.duration)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            duration: end.duration,
            head_after: end.head_after,
            correlation_id: self.correlation_id.clone(),
            trace_id: self.trace.trace_id,
            span_id: self.trace.span_id,
            parent_span_id: self.trace.parent_span_id,
            sampling: self.trace.sampling,
            method: self.method.clone(),
            uri: self.uri.clone(),
            protocol: self.protocol,
            destination: Arc::clone(&self.destination.name),
            endpoint: self.endpoint,
            route: Arc::clone(&self.rule.name),
            revision: self.revision,
            priority: self.priority,
            status: end.status,
            grpc_status: end.grpc_status,
            outcome: end.outcome,
            error_kind: end.error_kind,
            attempts: trail.attempts.into_vec(),
            decisions: trail.decisions,
        }
    }
}

/// The least of the caller's deadline and the policy's. The policy's counts only where it is enforced; where policy is
/// off, nobody's does.
fn deadline_of(rule: &Rule, propagated: &Propagated) -> Option<Duration> {
    match rule.mode {
        Mode::Enforce => propagated.least().into_iter().chain(rule.deadline).min(),
        Mode::Observe => propagated.least(),
        Mode::Off => None,
    }
}

fn protocol(head: &Parts) -> Protocol {
    if head.version != http::Version::HTTP_2 {
        return Protocol::Http1;
    }
    let is_grpc = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        Protocol::Grpc
    } else {
        Protocol::Http2
    }
}

fn priority(headers: &HeaderMap) -> Option<Priority> {
    match headers.get(&PRIORITY)?.as_bytes() {
        b"critical" => Some(Priority::Critical),
        b"normal" => Some(Priority::Normal),
        b"sheddable" => Some(Priority::Sheddable),
        _ => None,
    }
}

/// Tries before this one, as the caller counts them: gRPC's header counts those before, Envoy's and ours this one too.
fn previous_attempts(headers: &HeaderMap) -> u32 {
    let number = |name: &HeaderName| headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok();
    let before = number(&GRPC_PREVIOUS_RPC_ATTEMPTS).unwrap_or(0);
    let own = number(&ATTEMPT)
        .max(number(&ENVOY_ATTEMPT_COUNT))
        .unwrap_or(1);
    before.max(own.saturating_sub(1))
}

const PRIORITY: HeaderName = HeaderName::from_static(header::PRIORITY);
const ATTEMPT: HeaderName = HeaderName::from_static(header::ATTEMPT);
const ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static(header::ENVOY_ATTEMPT_COUNT);
const GRPC_PREVIOUS_RPC_ATTEMPTS: HeaderName =
    HeaderName::from_static(header::GRPC_PREVIOUS_RPC_ATTEMPTS);

#[cfg(test)]
mod tests;
