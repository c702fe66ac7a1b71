use proptest::prelude::*;

use super::*;

const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

pub(super) fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_static(name), value.parse().unwrap());
    }
    map
}

pub(super) fn begin(map: &mut HeaderMap) -> Trace {
    Trace::begin(map, |sampled, _| match sampled {
        Some(true) => Sampling::Sampled,
        Some(false) => Sampling::CallerDeclined,
        None => Sampling::PassedOver,
    })
}

#[test]
fn a_valid_traceparent_is_continued_under_a_new_span() {
    let mut map = headers(&[("traceparent", VALID), ("tracestate", "a=1")]);
    let trace = begin(&mut map);
    assert_eq!(trace.sampling, Sampling::Sampled);
    let span = random_span_id();
    trace.write(&mut map, &span);
    let written = map.get("traceparent").unwrap().to_str().unwrap();
    assert!(
        written.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && written.ends_with("-01")
    );
    assert_ne!(written, VALID);
    assert_eq!(map.get("tracestate").unwrap(), "a=1");
}

#[test]
fn malformed_traceparents_are_replaced_with_their_tracestate() {
    for malformed in [
        "",
        "00",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
    ] {
        let mut map = headers(&[("traceparent", malformed), ("tracestate", "a=1")]);
        let trace = begin(&mut map);
        assert_eq!(trace.parent_span_id, None, "{malformed}");
        assert!(map.get("tracestate").is_none(), "{malformed}");
        trace.write(&mut map, &trace.span_id);
        assert!(parse_traceparent(map.get("traceparent").unwrap().as_bytes()).is_some());
    }
}

#[test]
fn a_repeated_traceparent_is_malformed() {
    let mut map = headers(&[("traceparent", VALID), ("traceparent", VALID)]);
    assert_eq!(begin(&mut map).parent_span_id, None);
    assert!(map.get("traceparent").is_none());
}

#[test]
fn a_higher_version_is_read_by_its_first_fields() {
    let mut map = headers(&[(
        "traceparent",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-next",
    )]);
    let trace = begin(&mut map);
    assert!(trace.parent_span_id.is_some());
    trace.write(&mut map, &trace.span_id);
    assert!(
        map.get("traceparent")
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("00-4bf92f")
    );
}

proptest! {
    #[test]
    fn what_is_written_can_always_be_read(value in proptest::collection::vec(32u8..127, 0..80)) {
        let mut map = HeaderMap::new();
        map.insert(TRACEPARENT, HeaderValue::from_bytes(&value).unwrap());
        let trace = begin(&mut map);
        trace.write(&mut map, &trace.span_id);
        let read = parse_traceparent(map.get(TRACEPARENT).unwrap().as_bytes()).unwrap();
        prop_assert_eq!(read.ids.trace_id, trace.trace_id);
        prop_assert_eq!(read.ids.span_id, trace.span_id);
    }
}
