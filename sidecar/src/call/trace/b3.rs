//! B3 propagation (openzipkin/b3-propagation): `b3: {trace}-{span}[-{state}[-{parent}]]` or `b3: {state}`, and the
//! `X-B3-` headers.
//!
//! All of a caller's B3 headers are taken out. The server gets new ones, in the forms in which the caller's could be
//! read, with the ids and the decision of its `traceparent`: two contexts in one request never contradict each other.
//! Headers that cannot be read are left out, and the server has the `traceparent` alone.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::{Ids, header_value, is_id, only, parse_hex, write_hex};
use crate::http::unindexed;
use crate::telemetry::record::{SpanId, TraceId};

/// How a caller uses B3; the server gets the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct B3 {
    form: Form,
    width: Width,
    is_debug: bool,
}

/// Which headers the context is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Single,
    Multi,
    Both,
}

/// Digits of trace ids. The old ones are the last 64 bits of a trace id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Digits16,
    Digits32,
}

/// What a caller propagated by B3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Propagated {
    /// Its trace and span. None: only a decision.
    pub(super) ids: Option<Ids>,
    /// Whether the trace is sampled, if that was decided.
    pub(super) sampled: Option<bool>,
    /// The way in which it was said.
    pub(super) b3: B3,
}

impl Propagated {
    /// Takes the context out of the headers. None: there is none, or it cannot be read.
    ///
    /// Where both forms can be read the single one counts, as the specification asks.
    pub(super) fn take(headers: &mut HeaderMap) -> Option<Self> {
        // One look at the names costs less than six at the map, and most requests have none of them.
        if !headers.keys().any(|name| ALL.contains(name)) {
            return None;
        }
        let single = only(headers, &SINGLE).and_then(single);
        let multi = multi(headers);
        for name in &ALL {
            headers.remove(name);
        }
        let both = single.is_some() && multi.is_some();
        let mut propagated = single.or(multi)?;
        if both {
            propagated.b3.form = Form::Both;
        }
        Some(propagated)
    }

    fn of(ids: Option<(Ids, Width)>, state: Option<State>, form: Form) -> Self {
        let (ids, width) = ids.unzip();
        Self {
            ids,
            sampled: state.map(|state| state != State::Deny),
            b3: B3 {
                form,
                width: width.unwrap_or(Width::Digits32),
                is_debug: state == Some(State::Debug),
            },
        }
    }
}

impl B3 {
    /// Writes the context of an attempt.
    pub(super) fn write(
        self,
        headers: &mut HeaderMap,
        trace: &TraceId,
        span: SpanId,
        sampled: bool,
    ) {
        let mut trace_id = [b'0'; 32];
        write_hex(&mut trace_id, 0, trace);
        let digits = match self.width {
            Width::Digits16 => trace_id.get(16..).unwrap_or_default(),
            Width::Digits32 => &trace_id,
        };
        let mut span_id = [b'0'; 16];
        write_hex(&mut span_id, 0, &span);
        let state = match (sampled, self.is_debug) {
            (true, true) => State::Debug,
            (true, false) => State::Accept,
            (false, _) => State::Deny,
        };
        if self.form != Form::Multi {
            let fields = [digits, b"-", &span_id, b"-", state.letter()].concat();
            headers.insert(SINGLE, unindexed(header_value(&fields)));
        }
        if self.form != Form::Single {
            headers.insert(TRACE_ID, unindexed(header_value(digits)));
            headers.insert(SPAN_ID, unindexed(header_value(&span_id)));
            match state {
                // Debug implies the decision, which is then not sent.
                State::Debug => headers.insert(FLAGS, HeaderValue::from_static("1")),
                State::Accept | State::Deny => {
                    headers.insert(SAMPLED, header_value(state.letter()))
                }
            };
        }
    }
}

/// The sampling state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Deny,
    Accept,
    /// Accepted, and everybody who decides later is asked to accept too.
    Debug,
}

impl State {
    fn parse(letter: &[u8]) -> Option<Self> {
        match letter {
            b"0" => Some(Self::Deny),
            b"1" => Some(Self::Accept),
            b"d" => Some(Self::Debug),
            _ => None,
        }
    }

    fn letter(self) -> &'static [u8] {
        match self {
            Self::Deny => b"0",
            Self::Accept => b"1",
            Self::Debug => b"d",
        }
    }
}

fn single(value: &[u8]) -> Option<Propagated> {
    let mut fields = value.split(|&byte| byte == b'-');
    let first = fields.next()?;
    let Some(span_id) = fields.next() else {
        return Some(Propagated::of(
            None,
            Some(State::parse(first)?),
            Form::Single,
        ));
    };
    let state = match fields.next() {
        Some(letter) => Some(State::parse(letter)?),
        None => None,
    };
    if let Some(parent) = fields.next() {
        parse_hex::<8>(parent)?;
    }
    if fields.next().is_some() {
        return None;
    }
    Some(Propagated::of(
        Some(ids(first, span_id)?),
        state,
        Form::Single,
    ))
}

/// Ids come both or not at all. A decision that cannot be read is none: the ids are not in doubt for it.
fn multi(headers: &HeaderMap) -> Option<Propagated> {
    let state = match (only(headers, &FLAGS), only(headers, &SAMPLED)) {
        (Some(b"1"), _) => Some(State::Debug),
        // Written by old libraries.
        (_, Some(b"true")) => Some(State::Accept),
        (_, Some(b"false")) => Some(State::Deny),
        (_, Some(letter @ (b"0" | b"1"))) => State::parse(letter),
        (_, _) => None,
    };
    if !headers.contains_key(&TRACE_ID) && !headers.contains_key(&SPAN_ID) {
        return state.map(|state| Propagated::of(None, Some(state), Form::Multi));
    }
    let ids = ids(only(headers, &TRACE_ID)?, only(headers, &SPAN_ID)?)?;
    Some(Propagated::of(Some(ids), state, Form::Multi))
}

fn ids(trace_id: &[u8], span_id: &[u8]) -> Option<(Ids, Width)> {
    let (trace_id, width) = match parse_hex::<8>(trace_id) {
        Some(low) => {
            let mut id = TraceId::default();
            id.get_mut(8..)?.copy_from_slice(&low);
            (id, Width::Digits16)
        }
        None => (parse_hex(trace_id)?, Width::Digits32),
    };
    let ids = Ids {
        trace_id: Some(trace_id).filter(is_id)?,
        span_id: parse_hex(span_id).filter(is_id)?,
    };
    Some((ids, width))
}

const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const ALL: [HeaderName; 6] = [SINGLE, TRACE_ID, SPAN_ID, PARENT_SPAN_ID, SAMPLED, FLAGS];

#[cfg(test)]
mod tests;
