use std::time::Duration;

use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::{AttemptTimeout, Methods, Mode, Priority, Target};

/// Every field, none of them at its default.
const FULL: &str = r#"
version: weir/v1
defaults:
  mode: observe
  deadline: 10s
  attemptTimeout: adaptive
  retry:
    attempts: 4
    on: [connect-failure, 503, "504", grpc-unavailable]
    methods: all
    backoff: {base: 10ms, max: 1s}
    budget: {ratio: 0.25, burst: 7}
    bodyBytesMax: 1MiB
  admission:
    limit: 8
    queue: {length: 16, target: 5ms, timeout: 250ms}
  priority: critical
  breaker: {consecutiveFailures: 5, ejection: 2s..30s}
routes:
  - name: payments
    match: {authority: payments.shop.svc, port: 80, path: {prefix: /v1/}, methods: [GET, POST]}
    deadline: none
    attemptTimeout: 1500ms
    retry: {attempts: 2, methods: [GET]}
    breaker: none
  - match: {authority: "*.shop.svc"}
    admission: {queue: {length: auto}}
opaquePorts: [9999, 1234]
"#;

fn mistakes(text: &str) -> String {
    Document::parse(text).unwrap_err().to_string()
}

#[test]
fn a_document_with_nothing_but_a_version_is_the_default_policy() {
    let document = Document::parse("version: weir/v1").unwrap();
    assert_eq!(document, Document::default());
    let policy = document.compile();
    assert_eq!(**policy.defaults(), Rule::default());
}

#[test]
fn every_field_reaches_the_rule() {
    let policy = Document::parse(FULL).unwrap().compile();
    let rule = policy.defaults();
    assert_eq!(rule.mode, Mode::Observe);
    assert_eq!(rule.deadline, Some(Duration::from_secs(10)));
    assert_eq!(rule.attempt_timeout, AttemptTimeout::Adaptive);
    assert_eq!(rule.retry.attempts, 4);
    assert!(rule.retry.on.connect_failure && rule.retry.on.gateway_timeout);
    assert!(!rule.retry.on.reset && !rule.retry.on.bad_gateway);
    assert_eq!(rule.retry.methods, Methods::All);
    assert_eq!(rule.retry.backoff_base, Duration::from_millis(10));
    assert_eq!(rule.retry.backoff_max, Duration::from_secs(1));
    assert_eq!(rule.retry.budget.ratio_milli, 250);
    assert_eq!(rule.retry.budget.burst, 7);
    assert_eq!(rule.retry.body_bytes_max, 1024 * 1024);
    assert_eq!(rule.admission.limit, 8);
    assert_eq!(rule.admission.queue_length, Some(16));
    assert_eq!(rule.admission.queue_target, Some(Duration::from_millis(5)));
    assert_eq!(rule.admission.queue_timeout, Duration::from_millis(250));
    assert_eq!(rule.priority, Priority::Critical);
    let breaker = rule.breaker.unwrap();
    assert_eq!(breaker.consecutive_failures, 5);
    assert_eq!(breaker.ejection_max, Duration::from_secs(30));
}

#[test]
fn a_route_inherits_what_it_does_not_say() {
    let policy = Document::parse(FULL).unwrap().compile();
    let rule = policy.rule(&Target {
        host: "payments.shop.svc",
        port: 80,
        path: "/v1/pay",
        method: &http::Method::GET,
    });
    assert_eq!(&*rule.name, "payments");
    assert_eq!(rule.deadline, None);
    assert_eq!(rule.breaker, None);
    assert_eq!(rule.retry.attempts, 2);
    assert_eq!(rule.retry.methods, Methods::Only(vec![http::Method::GET]));
    assert_eq!(rule.retry.budget.burst, 7);
    assert_eq!(rule.admission.limit, 8);
    assert_eq!(rule.mode, Mode::Observe);
}

#[test]
fn a_route_has_a_scope_when_it_brings_state_of_its_own() {
    for (settings, scoped) in [
        ("{admission: {limit: 8}}", true),
        ("{retry: {budget: {burst: 1}}}", true),
        ("{breaker: {consecutiveFailures: 3}}", true),
        ("{breaker: none}", true),
        (
            "{retry: {attempts: 1}, deadline: 1s, mode: off, priority: sheddable}",
            false,
        ),
    ] {
        let text = settings.replacen('{', "{name: r, ", 1);
        let text = format!("{{version: weir/v1, routes: [{text}]}}");
        let policy = Document::parse(&text).unwrap().compile();
        let target = Target {
            host: "h",
            port: 1,
            path: "/",
            method: &http::Method::GET,
        };
        assert_eq!(
            policy.rule(&target).scope.as_deref(),
            scoped.then_some("r"),
            "{settings}"
        );
    }
}

#[test]
fn the_canonical_form_is_read_back_the_same() {
    let document = Document::parse(FULL).unwrap();
    let value = document.to_value();
    expect![[r#"{"version":"weir/v1","defaults":{"mode":"observe","deadline":"10s","attemptTimeout":"adaptive","retry":{"attempts":4,"on":["connect-failure",503,504,"grpc-unavailable"],"methods":"all","backoff":{"base":"10ms","max":"1s"},"budget":{"ratio":0.25,"burst":7},"bodyBytesMax":"1MiB"},"admission":{"limit":8,"queue":{"length":16,"target":"5ms","timeout":"250ms"}},"priority":"critical","breaker":{"consecutiveFailures":5,"ejection":"2s..30s"}},"routes":[{"name":"payments","match":{"authority":"payments.shop.svc","port":80,"path":{"prefix":"/v1/"},"methods":["GET","POST"]},"deadline":"none","attemptTimeout":"1500ms","retry":{"attempts":2,"methods":["GET"]},"breaker":"none"},{"match":{"authority":"*.shop.svc"},"admission":{"queue":{"length":"auto"}}}],"opaquePorts":[1234,9999]}"#]]
    .assert_eq(&value.to_string());
    assert_eq!(Document::from_value(&value).unwrap(), document);
    assert_eq!(Document::parse(&value.to_string()).unwrap(), document);
    assert_eq!(Document::parse(&document.to_yaml()).unwrap(), document);
    let again: Document = serde_json::from_value(value).unwrap();
    assert_eq!(again, document);
}

#[test]
fn a_rule_written_out_in_full_is_read_back_the_same() {
    let rule = Document::parse(FULL).unwrap().compile().defaults().clone();
    let settings = serde_json::to_value(effective_settings(&rule)).unwrap();
    let document = json!({"version": VERSION, "defaults": settings});
    let again = Document::from_value(&document).unwrap().compile();
    assert_eq!(*again.defaults(), rule);
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let text = r#"
version: weir/v2
colour: blue
defaults: {mode: sometimes, deadline: 10, attempt_timeout: 1s, priority: 7}
routes:
  - name: pay ments
    match: {authority: "http://payments/", port: 70000, path: {prefix: v1}, methods: []}
    retry: {attempts: 0, on: [500, reset], methods: [get], budget: {ratio: 1.5, burst: -1}, bodyBytesMax: 64KB}
  - 5
  - {admission: {limit: adaptive, queue: {length: 0.5, target: 1h, timeout: 0s}}, breaker: {ejection: 60s..1s}}
opaquePorts: [0, http]
"#;
    expect![[r#"
        /colour: unknown field; expected one of version, defaults, routes, opaquePorts
        /version: "weir/v2" is not a version that is known here; expected weir/v1
        /defaults/attempt_timeout: unknown field; did you mean attemptTimeout?
        /defaults/mode: "sometimes" is none of enforce, observe, off
        /defaults/deadline: 10 is not a length of time; write a whole number with its unit, such as 250ms or 10s
        /defaults/priority: 7 is none of critical, normal, sheddable
        /routes/0/name: "pay ments" is not a route's name: 1 to 63 letters, digits, dots, dashes and underscores
        /routes/0/match/authority: "http://payments/" is not a host; leave out the scheme and the path
        /routes/0/match/port: 70000 is above the maximum of 65535
        /routes/0/match/path/prefix: "v1" is not a path prefix: it starts with a slash, is percent-encoded and has no query
        /routes/0/match/methods: an empty list matches nothing; leave it out
        /routes/0/retry/attempts: 0 is below the minimum of 1
        /routes/0/retry/on/0: 500 is none of connect-failure, refused-stream, reset, 502, 503, 504, grpc-unavailable
        /routes/0/retry/methods/0: "get" is not a method: they are in upper case, GET
        /routes/0/retry/budget/ratio: 1.5 is above the maximum of 1
        /routes/0/retry/budget/burst: -1 is below the minimum of 0
        /routes/0/retry/bodyBytesMax: "64KB" is not a size; write a whole number with its unit, such as 64KiB
        /routes/1: 5 is not an object with any of name, match, mode, deadline, attemptTimeout, retry, admission, priority, breaker
        /routes/2/admission/limit: adaptive limits are not available yet; write a number of calls in flight
        /routes/2/admission/queue/length: 0.5 is not a whole number between 0 and 100000
        /routes/2/admission/queue/target: 1h is above the maximum of 10m
        /routes/2/admission/queue/timeout: 0s is below the minimum of 1ms
        /routes/2/breaker/ejection: 1m is above 1s; write the shorter length first
        /opaquePorts/0: 0 is below the minimum of 1
        /opaquePorts/1: "http" is not a whole number between 1 and 65535"#]]
    .assert_eq(&mistakes(text));
}

#[test]
fn a_list_of_wrong_methods_is_not_called_empty_too() {
    let text = "version: weir/v1\nroutes: [{match: {methods: [GE T]}}]\n";
    expect![[r#"/routes/0/match/methods/0: "GE T" is not an HTTP method"#]]
        .assert_eq(&mistakes(text));
}

#[test]
fn mistakes_between_fields_are_found() {
    let text = r"
version: weir/v1
defaults: {deadline: 1s, attemptTimeout: 2s}
routes:
  - {name: a, retry: {backoff: {base: 1s}}}
  - {name: a, retry: {backoff: {max: 1ms}}}
";
    expect![[r"
        /defaults/attemptTimeout: 2s is above the deadline of 1s
        /routes/0/retry/backoff/base: 1s is above the max of 250ms that it inherits
        /routes/1/retry/backoff/max: 1ms is below the base of 25ms that it inherits
        /routes/1/name: a is the name of /routes/0 already"]]
    .assert_eq(&mistakes(text));
}

#[test]
fn what_yaml_1_1_readers_do_to_on_and_off_is_explained() {
    let value = json!({"version": VERSION, "defaults": {"mode": false, "retry": {"true": [503]}}});
    let error = Document::from_value(&value).unwrap_err().to_string();
    expect![[r#"
        /defaults/mode: false is none of enforce, observe, off; some YAML readers take a bare on or off for a boolean: write it in quotes
        /defaults/retry/true: unknown field; some YAML readers take a bare on for true: write "on" in quotes"#]]
    .assert_eq(&error);
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let text = r"
version: weir/v1
defaults: {deadline: 1s, retry: {attempts: 1, methods: all, on: [503]}}
routes:
  - {match: {authority: a}, admission: {queue: {timeout: 5s}}}
  - {name: b, match: {authority: a}, breaker: {}}
opaquePorts: [3306]
";
    let warnings: Vec<String> = Document::parse(text)
        .unwrap()
        .warnings()
        .iter()
        .map(ToString::to_string)
        .collect();
    expect![[r"
        /defaults/retry/methods: all: a call that is not idempotent may be processed more than once
        /defaults/retry/attempts: 1: nothing is retried, so the other settings of retry have no effect
        /routes/0/admission/queue/timeout: 5s has no effect: the deadline of 1s comes first
        /routes/0: has admission, a budget or a breaker of its own, but no name: they start afresh when the route moves
        /routes/1/breaker: a Service's cluster IP is one endpoint: when it is ejected, every call to it is refused
        /routes/1: is never used: /routes/0 matches the same calls
        /opaquePorts: 3306 is opaque without being listed"]]
    .assert_eq(&warnings.join("\n"));
}

#[test]
fn text_that_is_neither_yaml_nor_json_is_refused_with_its_place() {
    for text in [
        "version: [",
        "{\"version\": }",
        "a: b: c",
        "version: weir/v1\n\tdefaults:",
        "{\"version\":\"weir/v1\",\"version\":\"weir/v1\"}",
    ] {
        let error = Document::parse(text).unwrap_err();
        assert!(
            matches!(error, DocumentError::Syntax { .. }),
            "{text}: {error}"
        );
        assert!(error.to_string().contains("line"), "{text}: {error}");
    }
    let twice = "not valid YAML: version is given twice";
    assert_eq!(mistakes("version: weir/v1\nversion: weir/v1"), twice);
    expect!["/version: missing; write version: weir/v1"].assert_eq(&mistakes("{}"));
    expect!["document: null is not an object with any of version, defaults, routes, opaquePorts"]
        .assert_eq(&mistakes(""));
}

#[test]
fn documents_beyond_every_need_are_refused_before_they_cost_anything() {
    let aliases = format!(
        "a: &a [{}]\nb: &b [{}]\nc: [{}]",
        "x,".repeat(1000),
        "*a,".repeat(1000),
        "*b,".repeat(1000)
    );
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), "*a,".repeat(1000));
    for text in [
        " ".repeat(BYTES_MAX + 1),
        "[".repeat(1_000_000),
        "{\"a\":".repeat(150_000),
        "- ".repeat(500_000),
        "? ".repeat(500_000),
        format!("{{\"a\":[{}0]}}", "0,".repeat(200_000)),
        format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40)),
        aliases,
        long,
    ] {
        let error = Document::parse(&text).unwrap_err();
        let start: String = text.chars().take(20).collect();
        assert!(
            matches!(error, DocumentError::TooLarge(_)),
            "{start}: {error}"
        );
    }
}

#[test]
fn the_list_of_mistakes_has_an_end() {
    let text = format!("{{version: weir/v1, opaquePorts: [{}]}}", "0,".repeat(900));
    let error = Document::parse(&text).unwrap_err();
    assert_eq!(error.findings().len(), 101);
    assert!(error.to_string().ends_with("800 more mistakes"));
}

#[test]
fn the_schema_knows_exactly_the_fields_that_are_read() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let properties = |pointer: &str| -> Vec<&str> {
        let object = schema.pointer(pointer).unwrap()["properties"].as_object();
        object.unwrap().keys().map(String::as_str).collect()
    };
    for (pointer, fields) in [
        ("", read::DOCUMENT_FIELDS),
        ("/$defs/settings", read::SETTINGS_FIELDS),
        ("/$defs/retry", read::RETRY_FIELDS),
        ("/$defs/retry/properties/backoff", read::BACKOFF_FIELDS),
        ("/$defs/retry/properties/budget", read::BUDGET_FIELDS),
        ("/$defs/admission", read::ADMISSION_FIELDS),
        ("/$defs/admission/properties/queue", read::QUEUE_FIELDS),
        ("/$defs/breaker", read::BREAKER_FIELDS),
        ("/properties/routes/items", route::ROUTE_FIELDS),
        ("/$defs/match", route::MATCH_FIELDS),
        ("/$defs/match/properties/path", route::PATH_FIELDS),
    ] {
        assert_eq!(properties(pointer), fields, "{pointer}");
    }
}

#[test]
fn the_schema_names_the_defaults_that_are_compiled_in() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let built_in = serde_json::to_value(effective_settings(&Rule::default())).unwrap();
    let defaults = |pointer: &str| &schema.pointer(pointer).unwrap()["default"];
    for (pointer, value) in [
        ("/$defs/settings/properties/mode", "/mode"),
        ("/$defs/settings/properties/deadline", "/deadline"),
        (
            "/$defs/settings/properties/attemptTimeout",
            "/attemptTimeout",
        ),
        ("/$defs/settings/properties/priority", "/priority"),
        ("/$defs/settings/properties/breaker", "/breaker"),
        ("/$defs/retry/properties/attempts", "/retry/attempts"),
        ("/$defs/retry/properties/on", "/retry/on"),
        ("/$defs/retry/properties/methods", "/retry/methods"),
        (
            "/$defs/retry/properties/backoff/properties/base",
            "/retry/backoff/base",
        ),
        (
            "/$defs/retry/properties/backoff/properties/max",
            "/retry/backoff/max",
        ),
        (
            "/$defs/retry/properties/budget/properties/ratio",
            "/retry/budget/ratio",
        ),
        (
            "/$defs/retry/properties/budget/properties/burst",
            "/retry/budget/burst",
        ),
        (
            "/$defs/retry/properties/bodyBytesMax",
            "/retry/bodyBytesMax",
        ),
        ("/$defs/admission/properties/limit", "/admission/limit"),
        (
            "/$defs/admission/properties/queue/properties/length",
            "/admission/queue/length",
        ),
        (
            "/$defs/admission/properties/queue/properties/target",
            "/admission/queue/target",
        ),
        (
            "/$defs/admission/properties/queue/properties/timeout",
            "/admission/queue/timeout",
        ),
    ] {
        assert_eq!(
            Some(defaults(pointer)),
            built_in.pointer(value),
            "{pointer}"
        );
    }
}

/// Any JSON, mostly with names and words that a document knows.
fn any_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(
        [
            read::DOCUMENT_FIELDS,
            read::SETTINGS_FIELDS,
            read::RETRY_FIELDS,
            read::BACKOFF_FIELDS,
            read::BUDGET_FIELDS,
            read::ADMISSION_FIELDS,
            read::QUEUE_FIELDS,
            route::ROUTE_FIELDS,
            route::MATCH_FIELDS,
        ]
        .concat(),
    );
    let words = prop::sample::select(vec![
        "weir/v1", "none", "auto", "all", "1s", "10ms", "1s..2s", "64KiB", "GET", "*.a.b", "/v1",
        "503", "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        words.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

/// A route or defaults with nothing wrong in it.
fn right_settings() -> impl Strategy<Value = Value> {
    let length = || (1u32..600_000).prop_map(|ms| format!("{ms}ms"));
    let retry = (1u32..=10, 0u32..=1000, 0u32..=1000, 0u32..16_777_217, length()).prop_map(
        |(attempts, ratio, burst, bytes, max)| {
            let ratio = f64::from(ratio) / 1000.0;
            json!({"attempts": attempts, "budget": {"ratio": ratio, "burst": burst},
                "bodyBytesMax": bytes, "backoff": {"base": "1ms", "max": max}, "on": ["reset", 502]})
        },
    );
    let admission = (1u32..=100_000, 0u32..=100_000, length()).prop_map(|(limit, queue, timeout)| {
        json!({"limit": limit, "queue": {"length": queue, "target": "auto", "timeout": timeout}})
    });
    let word = |words: &'static [&'static str]| prop::sample::select(words);
    (
        prop::option::of(word(&["enforce", "observe", "off"])),
        prop::option::of(length()),
        prop::option::of(word(&["none", "adaptive"])),
        prop::option::of(retry),
        prop::option::of(admission),
        prop::option::of(word(&["critical", "normal", "sheddable"])),
    )
        .prop_map(
            |(mode, deadline, attempt_timeout, retry, admission, priority)| {
                json!({"mode": mode, "deadline": deadline, "attemptTimeout": attempt_timeout,
                "retry": retry, "admission": admission, "priority": priority})
            },
        )
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(value in any_json()) {
        match Document::from_value(&value) {
            Ok(document) => {
                drop((document.compile(), document.warnings()));
            }
            Err(error) => prop_assert!(!error.findings().is_empty()),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text: String) {
        if let Ok(document) = Document::parse(&text) {
            drop(document.compile());
        }
    }

    #[test]
    fn right_documents_survive_a_round_trip(
        defaults in right_settings(),
        routes in prop::collection::vec((right_settings(), "[a-z]{1,8}(\\.[a-z]{1,4})?", 1u16..), 0..6),
    ) {
        let routes: Vec<Value> = routes.into_iter().map(|(mut route, host, port)| {
            route["match"] = json!({"authority": host, "port": port, "path": {"prefix": "/v1"}});
            route
        }).collect();
        let value = json!({"version": VERSION, "defaults": defaults, "routes": routes});
        let document = Document::from_value(&value).unwrap();
        let canonical = document.to_value();
        let again = Document::from_value(&canonical).unwrap();
        prop_assert_eq!(&again, &document);
        prop_assert_eq!(again.to_value(), canonical);
        prop_assert_eq!(&Document::parse(&document.to_yaml()).unwrap(), &document);
        drop(document.compile());
    }

    #[test]
    fn changes_are_empty_only_between_equals(a in any_json(), b in any_json()) {
        prop_assert_eq!(changes(&a, &b).is_empty(), a == b);
        prop_assert!(changes(&a, &a).is_empty());
    }
}
