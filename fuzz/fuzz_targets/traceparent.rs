//! Whatever a caller propagates, what goes upstream is one well-formed `traceparent`.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use sidecar::call::trace::{Trace, random_span_id};
use sidecar::telemetry::record::Sampling;

const NAMES: [&str; 8] = [
    "traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags", "x-b3-parentspanid",
];

fuzz_target!(|fields: Vec<(u8, Vec<u8>)>| {
    let mut headers = HeaderMap::new();
    for (name, value) in fields.into_iter().take(20) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.append(HeaderName::from_static(NAMES[usize::from(name) % NAMES.len()]), value);
        }
    }
    let trace = Trace::begin(&mut headers, |_, _| Sampling::Sampled);
    trace.write(&mut headers, &random_span_id());
    let written: Vec<_> = headers.get_all("traceparent").iter().collect();
    assert_eq!(written.len(), 1);
    let text = written[0].to_str().expect("ASCII");
    let parts: Vec<&str> = text.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{text}");
    assert!(text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)), "{text}");
    assert!(parts[1].bytes().any(|byte| byte != b'0') && parts[2].bytes().any(|byte| byte != b'0'), "{text}");
});
