//! A call's trace context: read from the caller, or begun here, and written anew for each attempt.
//!
//! W3C Trace Context first, then [B3](b3) (single, then multi). A malformed context is replaced, never forwarded: its
//! trace id cannot be trusted to mean the same to everybody. `baggage` is the application's and is not touched.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::http::unindexed;
use crate::telemetry::record::{Sampling, SpanId, TraceId};

pub use b3::B3;

mod b3;

/// A call's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span, where one was propagated.
    pub parent_span_id: Option<SpanId>,
    /// The call's own span.
    pub span_id: SpanId,
    /// Whether spans are exported.
    pub sampling: Sampling,
    /// The way in which the caller uses B3, and so the server may too.
    pub b3: Option<B3>,
}

/// Where a caller stands in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ids {
    trace_id: TraceId,
    span_id: SpanId,
}

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Context {
    ids: Ids,
    sampled: bool,
}

impl Trace {
    /// Continues the caller's trace, or begins one. `sample` decides whether it is exported, by the caller's sampled
    /// flag (where there is one) and the trace id.
    ///
    /// Removes a malformed context (and the `tracestate` that went with it) from `headers`, and B3 of any kind.
    pub fn begin(
        headers: &mut HeaderMap,
        sample: impl FnOnce(Option<bool>, &TraceId) -> Sampling,
    ) -> Self {
        let context = traceparent_of(headers);
        let propagated = b3::Propagated::take(headers);
        let b3 = propagated.map(|propagated| propagated.b3);
        match (context, propagated) {
            (Some(Context { ids, sampled }), _) => Self::of(Some(ids), Some(sampled), b3, sample),
            (None, Some(b3::Propagated { ids, sampled, .. })) => Self::of(ids, sampled, b3, sample),
            (None, None) => Self::root(sample),
        }
    }

    /// Begins a trace, for a caller that sent no context at all.
    pub fn root(sample: impl FnOnce(Option<bool>, &TraceId) -> Sampling) -> Self {
        Self::of(None, None, None, sample)
    }

    fn of(
        ids: Option<Ids>,
        sampled: Option<bool>,
        b3: Option<B3>,
        sample: impl FnOnce(Option<bool>, &TraceId) -> Sampling,
    ) -> Self {
        let trace_id = ids.map_or_else(random_trace_id, |ids| ids.trace_id);
        Self {
            trace_id,
            parent_span_id: ids.map(|ids| ids.span_id),
            span_id: random_span_id(),
            sampling: sample(sampled, &trace_id),
            b3,
        }
    }

    /// Writes the context of an attempt: the server's parent is the attempt's span.
    pub fn write(&self, headers: &mut HeaderMap, attempt_span_id: &SpanId) {
        headers.insert(TRACEPARENT, self.traceparent(*attempt_span_id));
        if let Some(b3) = self.b3 {
            b3.write(headers, &self.trace_id, *attempt_span_id, self.sampled());
        }
    }

    fn sampled(&self) -> bool {
        self.sampling == Sampling::Sampled
    }

    fn traceparent(&self, span_id: SpanId) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text, 3, &self.trace_id);
        write_hex(&mut text, 36, &span_id);
        if self.sampled()
            && let Some(flag) = text.last_mut()
        {
            *flag = b'1';
        }
        unindexed(header_value(&text))
    }
}

/// A span id for an attempt; random, not all zero.
#[must_use]
pub fn random_span_id() -> SpanId {
    fastrand::u64(1..).to_be_bytes()
}

fn random_trace_id() -> TraceId {
    fastrand::u128(1..).to_be_bytes()
}

/// The caller's `traceparent`. One that is malformed goes, and so does a `tracestate` that belongs to none (Trace Context
/// §3.3.1.1).
fn traceparent_of(headers: &mut HeaderMap) -> Option<Context> {
    let context = only(headers, &TRACEPARENT).and_then(parse_traceparent);
    if context.is_none() {
        headers.remove(&TRACEPARENT);
        headers.remove(&TRACESTATE);
    }
    context
}

/// The value of a header that must not be repeated.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes())
}

/// Trace Context §3.2: `version "-" trace-id "-" parent-id "-" flags`, lower-case hex, ids not all zero.
///
/// A higher version is read by its first four fields, as §3.2.4 asks; version `ff` is invalid.
fn parse_traceparent(value: &[u8]) -> Option<Context> {
    let (fields, rest) = value.split_at_checked(55)?;
    let [version, trace_id, span_id, flags] = split_fields(fields)?;
    let [version] = parse_hex::<1>(version)?;
    let well_formed_rest = if version == 0 {
        rest.is_empty()
    } else {
        rest.is_empty() || rest.starts_with(b"-")
    };
    if version == 0xff || !well_formed_rest {
        return None;
    }
    let [flags] = parse_hex::<1>(flags)?;
    Some(Context {
        ids: Ids {
            trace_id: parse_hex(trace_id).filter(is_id)?,
            span_id: parse_hex(span_id).filter(is_id)?,
        },
        sampled: flags & 1 == 1,
    })
}

fn split_fields(text: &[u8]) -> Option<[&[u8]; 4]> {
    let mut fields = text.split(|&byte| byte == b'-');
    let all = [
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    ];
    fields.next().is_none().then_some(all)
}

fn is_id<const N: usize>(id: &[u8; N]) -> bool {
    id.iter().any(|&byte| byte != 0)
}

fn parse_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = digits else { return None };
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn write_hex(text: &mut [u8], at: usize, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let Some(text) = text.get_mut(at..) else {
        return;
    };
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 0xf]) {
            *digit = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        }
    }
}

fn header_value(text: &[u8]) -> HeaderValue {
    // Hex digits and hyphens are always a valid field value.
    HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[cfg(test)]
mod tests;
