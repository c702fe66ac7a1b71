//! A call's trace context: read from the caller, or begun here, and written anew for each attempt.
//!
//! W3C Trace Context first, then B3 (single, then multi). A malformed context is replaced, never forwarded: its trace
//! id cannot be trusted to mean the same to everybody. `baggage` is the application's and is not touched.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::http::unindexed;
use crate::telemetry::record::{Sampling, SpanId, TraceId};

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
    /// The form of B3 that the caller uses, and so the server may too.
    pub b3: Option<B3>,
}

/// Which B3 headers a caller sent; the same ones are written upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct B3 {
    form: B3Form,
    trace_id_digits: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum B3Form {
    Single,
    Multi,
}

/// What a caller propagated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Context {
    trace_id: TraceId,
    span_id: SpanId,
    sampled: Option<bool>,
}

impl Trace {
    /// Continues the caller's trace, or begins one. `sample` decides whether it is exported, by the caller's sampled
    /// flag (where there is one) and the trace id.
    ///
    /// Removes a malformed context (and the `tracestate` that went with it) from `headers`.
    pub fn begin(
        headers: &mut HeaderMap,
        sample: impl FnOnce(Option<bool>, &TraceId) -> Sampling,
    ) -> Self {
        let (context, b3) = if headers.contains_key(&TRACEPARENT) {
            let context = only(headers, &TRACEPARENT).and_then(parse_traceparent);
            if context.is_none() {
                headers.remove(&TRACEPARENT);
                headers.remove(&TRACESTATE);
            }
            (context, read_b3(headers).map(|(_, b3)| b3))
        } else {
            // Without a traceparent, a tracestate belongs to nothing (Trace Context §3.3.1.1).
            if headers.contains_key(&TRACESTATE) {
                headers.remove(&TRACESTATE);
            }
            match read_b3(headers) {
                Some((context, b3)) => (Some(context), Some(b3)),
                None => (None, None),
            }
        };
        Self::of(context, b3, sample)
    }

    /// Begins a trace, for a caller that sent no context at all.
    pub fn root(sample: impl FnOnce(Option<bool>, &TraceId) -> Sampling) -> Self {
        Self::of(None, None, sample)
    }

    fn of(
        context: Option<Context>,
        b3: Option<B3>,
        sample: impl FnOnce(Option<bool>, &TraceId) -> Sampling,
    ) -> Self {
        let trace_id = context.map_or_else(random_trace_id, |context| context.trace_id);
        Self {
            trace_id,
            parent_span_id: context.map(|context| context.span_id),
            span_id: random_span_id(),
            sampling: sample(context.and_then(|context| context.sampled), &trace_id),
            b3,
        }
    }

    /// Writes the context of an attempt: the server's parent is the attempt's span.
    pub fn write(&self, headers: &mut HeaderMap, attempt_span_id: &SpanId) {
        headers.insert(TRACEPARENT, self.traceparent(*attempt_span_id));
        if let Some(b3) = self.b3 {
            self.write_b3(headers, b3, *attempt_span_id);
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

    fn write_b3(&self, headers: &mut HeaderMap, b3: B3, span_id: SpanId) {
        let mut trace_id = [b'0'; 32];
        write_hex(&mut trace_id, 0, &self.trace_id);
        let trace_id = trace_id.get(32 - b3.trace_id_digits..).unwrap_or_default();
        let mut span = [b'0'; 16];
        write_hex(&mut span, 0, &span_id);
        let sampled: &[u8] = if self.sampled() { b"1" } else { b"0" };
        match b3.form {
            B3Form::Single => {
                headers.insert(
                    B3_SINGLE,
                    header_value(&[trace_id, b"-", &span, b"-", sampled].concat()),
                );
            }
            B3Form::Multi => {
                headers.insert(B3_TRACE_ID, header_value(trace_id));
                headers.insert(B3_SPAN_ID, header_value(&span));
                headers.insert(B3_SAMPLED, header_value(sampled));
                headers.remove(&B3_PARENT_SPAN_ID);
            }
        }
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
        trace_id: parse_hex(trace_id).filter(is_id)?,
        span_id: parse_hex(span_id).filter(is_id)?,
        sampled: Some(flags & 1 == 1),
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

/// openzipkin/b3-propagation: `b3: {trace}-{span}[-{sampled}[-{parent}]]`, else the `X-B3-` headers.
fn read_b3(headers: &HeaderMap) -> Option<(Context, B3)> {
    if let Some(value) = only(headers, &B3_SINGLE) {
        let mut fields = value.split(|&byte| byte == b'-');
        let (trace_id, span_id) = (fields.next()?, fields.next()?);
        let context = b3_context(trace_id, span_id, fields.next())?;
        return Some((
            context,
            B3 {
                form: B3Form::Single,
                trace_id_digits: trace_id.len(),
            },
        ));
    }
    let trace_id = only(headers, &B3_TRACE_ID)?;
    let sampled = match only(headers, &B3_FLAGS) {
        Some(b"1") => Some(&b"1"[..]),
        Some(_) | None => only(headers, &B3_SAMPLED),
    };
    let context = b3_context(trace_id, only(headers, &B3_SPAN_ID)?, sampled)?;
    Some((
        context,
        B3 {
            form: B3Form::Multi,
            trace_id_digits: trace_id.len(),
        },
    ))
}

fn b3_context(trace_id: &[u8], span_id: &[u8], sampled: Option<&[u8]>) -> Option<Context> {
    let trace_id = match trace_id.len() {
        16 => {
            let mut id = [0; 16];
            id.get_mut(8..)?.copy_from_slice(&parse_hex::<8>(trace_id)?);
            id
        }
        _ => parse_hex(trace_id)?,
    };
    let sampled = match sampled {
        Some(b"1" | b"d" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        Some(_) | None => None,
    };
    Some(Context {
        trace_id: Some(trace_id).filter(is_id)?,
        span_id: parse_hex(span_id).filter(is_id)?,
        sampled,
    })
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
const B3_SINGLE: HeaderName = HeaderName::from_static("b3");
const B3_TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

#[cfg(test)]
mod tests;
