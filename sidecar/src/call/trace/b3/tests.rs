use super::super::Trace;
use super::super::tests::{begin, headers};
use super::*;
use crate::telemetry::record::Sampling;

/// The headers that an attempt is sent with, `traceparent` apart.
fn sent(fields: &[(&'static str, &str)]) -> (Trace, Vec<String>) {
    let mut map = headers(fields);
    let trace = begin(&mut map);
    trace.write(&mut map, &[1; 8]);
    let traceparent = map.remove("traceparent").unwrap();
    let mut sent: Vec<_> = map
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    sent.sort();
    assert!(traceparent.to_str().unwrap().contains("-0101010101010101-"));
    (trace, sent)
}

#[test]
fn b3_single_is_continued_in_its_own_form_too() {
    let mut map = headers(&[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1")]);
    let trace = begin(&mut map);
    assert_eq!(trace.sampling, Sampling::Sampled);
    trace.write(&mut map, &[1; 8]);
    assert_eq!(
        map.get("b3").unwrap(),
        "a3ce929d0e0e4736-0101010101010101-1"
    );
    assert!(
        map.get("traceparent")
            .unwrap()
            .to_str()
            .unwrap()
            .contains("-0000000000000000a3ce929d0e0e4736-")
    );
}

#[test]
fn b3_multi_is_continued_in_its_own_form_too() {
    let mut map = headers(&[
        ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("x-b3-spanid", "00f067aa0ba902b7"),
        ("x-b3-sampled", "0"),
    ]);
    let trace = begin(&mut map);
    assert_eq!(trace.sampling, Sampling::CallerDeclined);
    trace.write(&mut map, &[1; 8]);
    assert_eq!(map.get("x-b3-spanid").unwrap(), "0101010101010101");
    assert_eq!(map.get("x-b3-sampled").unwrap(), "0");
}

#[test]
fn a_context_without_a_decision_leaves_it_to_the_ratio() {
    let mut map = headers(&[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7")]);
    let trace = Trace::begin(&mut map, |sampled, _| {
        assert_eq!(sampled, None);
        Sampling::Sampled
    });
    assert_eq!(trace.sampling, Sampling::Sampled);
}

#[test]
fn malformed_b3_is_left_out_and_a_new_trace_begun() {
    for malformed in [
        "",
        "2",
        "a3ce929d0e0e4736",
        "a3ce929d0e0e4736-",
        "a3ce929d0e0e473-00f067aa0ba902b7-1",
        "A3CE929D0E0E4736-00f067aa0ba902b7-1",
        "0000000000000000-00f067aa0ba902b7-1",
        "a3ce929d0e0e4736-0000000000000000-1",
        "a3ce929d0e0e4736-00f067aa0ba902b7-x",
        "a3ce929d0e0e4736-00f067aa0ba902b7-1-parent",
        "a3ce929d0e0e4736-00f067aa0ba902b7-1-00f067aa0ba902b7-more",
    ] {
        let (trace, sent) = sent(&[("b3", malformed)]);
        assert_eq!(trace.parent_span_id, None, "{malformed}");
        assert_eq!(trace.sampling, Sampling::PassedOver, "{malformed}");
        assert_eq!(sent, [""; 0], "{malformed}");
    }
}

#[test]
fn malformed_b3_fields_are_left_out_all_of_them() {
    const TRACE: (&str, &str) = ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736");
    const SPAN: (&str, &str) = ("x-b3-spanid", "00f067aa0ba902b7");
    for malformed in [
        [
            TRACE,
            ("x-b3-spanid", "00f067aa0ba902b"),
            ("x-b3-sampled", "1"),
        ],
        [("x-b3-traceid", "4bf9"), SPAN, ("x-b3-flags", "1")],
        [TRACE, TRACE, SPAN],
        [
            TRACE,
            ("x-b3-parentspanid", "00f067aa0ba902b7"),
            ("x-b3-sampled", "1"),
        ],
        [
            SPAN,
            ("x-b3-parentspanid", "00f067aa0ba902b7"),
            ("x-b3-sampled", "1"),
        ],
    ] {
        let (trace, sent) = sent(&malformed);
        assert_eq!(trace.parent_span_id, None, "{malformed:?}");
        assert_eq!(sent, [""; 0], "{malformed:?}");
    }
}

#[test]
fn a_decision_without_ids_is_heeded_and_passed_on_with_those_of_the_new_trace() {
    let id = |trace: &Trace| format!("{:032x}", u128::from_be_bytes(trace.trace_id));
    for (name, value, sampling, state) in [
        ("b3", "0", Sampling::CallerDeclined, "0"),
        ("b3", "1", Sampling::Sampled, "1"),
        ("b3", "d", Sampling::Sampled, "d"),
    ] {
        let (trace, sent) = sent(&[(name, value)]);
        assert_eq!(trace.sampling, sampling, "{name}: {value}");
        let b3 = format!("b3: {}-0101010101010101-{state}", id(&trace));
        assert_eq!(sent, [b3], "{name}: {value}");
    }
    for (name, value, sampling, state) in [
        (
            "x-b3-sampled",
            "0",
            Sampling::CallerDeclined,
            "x-b3-sampled: 0",
        ),
        ("x-b3-sampled", "true", Sampling::Sampled, "x-b3-sampled: 1"),
        ("x-b3-flags", "1", Sampling::Sampled, "x-b3-flags: 1"),
    ] {
        let (trace, sent) = sent(&[(name, value)]);
        assert_eq!(trace.sampling, sampling, "{name}: {value}");
        let trace_id = format!("x-b3-traceid: {}", id(&trace));
        let span_id = "x-b3-spanid: 0101010101010101";
        assert_eq!(sent, [state, span_id, &trace_id], "{name}: {value}");
    }
}

#[test]
fn b3_beside_a_traceparent_is_given_the_traceparents_ids_and_decision() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (trace, sent) = sent(&[
        ("traceparent", traceparent),
        ("b3", "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-0"),
        ("x-b3-sampled", "0"),
    ]);
    assert_eq!(trace.sampling, Sampling::Sampled);
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    assert_eq!(
        sent,
        [
            format!("b3: {id}-0101010101010101-1"),
            "x-b3-sampled: 1".to_owned(),
            "x-b3-spanid: 0101010101010101".to_owned(),
            format!("x-b3-traceid: {id}"),
        ]
    );
}

#[test]
fn b3_is_continued_where_the_traceparent_is_malformed() {
    let (trace, _) = sent(&[
        ("traceparent", "00"),
        ("tracestate", "a=1"),
        ("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-0"),
    ]);
    assert_eq!(trace.sampling, Sampling::CallerDeclined);
    assert!(trace.parent_span_id.is_some());
}

proptest::proptest! {
    #[test]
    fn no_b3_header_is_passed_on_that_cannot_be_read(
        value in proptest::collection::vec(32u8..127, 0..80),
        name in proptest::sample::select(ALL.to_vec()),
    ) {
        let mut map = HeaderMap::new();
        map.insert(name, HeaderValue::from_bytes(&value).unwrap());
        let trace = begin(&mut map);
        trace.write(&mut map, &trace.span_id);
        let is_there = map.keys().any(|name| ALL.contains(name));
        let read = Propagated::take(&mut map);
        proptest::prop_assert_eq!(read.is_some(), is_there);
        if let Some(read) = read {
            proptest::prop_assert_eq!(read.ids.unwrap().trace_id, trace.trace_id);
        }
    }
}
