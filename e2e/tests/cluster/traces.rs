//! One call of a person, from service to service, is one trace in Jaeger; its correlation id finds it.

use std::collections::BTreeSet;

use e2e::cluster::jaeger::{self, Span};
use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SOON, until};

const SERVICES: [&str; 6] = [
    "stock", "catalog", "ledger", "payments", "checkout", "gateway",
];

/// The spans of one kind in a trace, by the workloads that exported them.
fn services(trace: &[Span], is: impl Fn(&Span) -> bool) -> BTreeSet<&str> {
    trace
        .iter()
        .filter(|span| is(span))
        .map(|span| span.service.as_str())
        .collect()
}

/// Twelve purchases at once under one correlation id, which nobody had before. Each service lets fewer through than the
/// one before it, and the last ones take their time: calls wait at several services.
fn buy(shop: &Namespace) -> String {
    for slow in ["stock", "ledger"] {
        shop.ask(&shop.pod(&format!("app={slow}")), 9000, "/fault?delay=40ms");
    }
    let client = shop.client("");
    let client = shop.get(&["pod", client]);
    let id = client["metadata"]["uid"].as_str().expect("an id");
    let header = format!("x-request-id:{id}");
    let burst = [
        "--calls",
        "12",
        "--rate",
        "200",
        "--seconds",
        "10",
        "--concurrency",
        "12",
        "--header",
        &header,
    ];
    let bought = shop.load("http://gateway/buy", &burst);
    assert_eq!(
        (&bought["sent"], &bought["ok"]),
        (&12.into(), &12.into()),
        "{bought}"
    );
    id.to_owned()
}

fn has_calls(span: &Span) -> bool {
    span.name.starts_with("call ")
}

fn has_attempts(span: &Span) -> bool {
    span.tag("span.kind") == Some("client")
}

fn has_waits(span: &Span) -> bool {
    span.name == "queue"
}

/// Every call has the one correlation id, and no span's parent is elsewhere.
fn assert_whole(trace: &[Span], id: &str) {
    let ids: BTreeSet<_> = trace
        .iter()
        .filter_map(|span| span.tag("weir.correlation_id"))
        .collect();
    assert_eq!(
        ids.into_iter().collect::<Vec<_>>(),
        [id],
        "one id in all of the trace"
    );
    let known: BTreeSet<_> = trace.iter().map(|span| span.id.as_str()).collect();
    let parents = trace.iter().filter_map(|span| span.parent.as_deref());
    let lost: Vec<_> = parents.filter(|parent| !known.contains(parent)).collect();
    assert!(
        lost.is_empty(),
        "parents that are not in the trace: {lost:?}: {trace:#?}"
    );
}

/// Each span says of which pod it is, as the downward API tells it.
fn assert_says_its_pod(shop: &Namespace, trace: &[Span]) {
    let pods = shop.get(&["pods"]);
    let pods = pods["items"].as_array().expect("pods");
    for span in trace {
        let pod = pods
            .iter()
            .find(|pod| pod["metadata"]["labels"]["app"] == span.service.as_str())
            .unwrap_or_else(|| panic!("no pod of {}", span.service));
        for (key, expected) in [
            ("k8s.namespace.name", &pod["metadata"]["namespace"]),
            ("service.namespace", &pod["metadata"]["namespace"]),
            ("k8s.pod.name", &pod["metadata"]["name"]),
            ("k8s.pod.uid", &pod["metadata"]["uid"]),
            ("k8s.node.name", &pod["spec"]["nodeName"]),
        ] {
            assert_eq!(span.resource(key), expected.as_str(), "{key}: {span:#?}");
        }
    }
}

/// The stable API has each of the spans too, of the same pod; more may have come meanwhile.
fn assert_is_found_by_v3(trace: &[Span], id: &str) {
    let named = |spans: &[Span]| -> BTreeSet<(String, String, Option<String>)> {
        spans
            .iter()
            .map(|span| {
                let pod = span.resource("k8s.pod.name").map(str::to_owned);
                (span.name.clone(), span.id.clone(), pod)
            })
            .collect()
    };
    let expected = named(trace);
    let found = until("the same spans by /api/v3", SOON, || {
        let found = jaeger::spans_v3(&trace[0].trace);
        named(&found).is_superset(&expected).then_some(found)
    });
    assert_whole(&found, id);
    let known = jaeger::services_v3();
    for service in services(trace, has_calls) {
        assert!(known.iter().any(|name| name == service), "{known:?}");
    }
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_purchase_is_one_trace_that_its_correlation_id_finds() {
    let shop = Namespace::injected("weir-traces");
    shop.policy(
        "defaults: {admission: {limit: 1, queue: {length: 50}}}
routes:
- {name: gateway, match: {authority: gateway}, admission: {limit: 6, queue: {length: 50}}}
- {name: checkout, match: {authority: checkout}, admission: {limit: 3, queue: {length: 50}}}",
    );
    shop.shop(&SERVICES);
    let id = &buy(&shop);

    let expected = BTreeSet::from(["client", "gateway", "checkout", "payments", "catalog"]);
    let found = until("a whole trace with waits at three services", SOON, || {
        let traces = jaeger::traces("client", "weir.correlation_id", id);
        traces.into_iter().find(|trace| {
            services(trace, has_calls) == expected && services(trace, has_waits).len() >= 3
        })
    });
    assert_eq!(
        services(&found, has_attempts),
        expected,
        "each call has its attempt"
    );
    assert_whole(&found, id);
    assert_says_its_pod(&shop, &found);
    assert_is_found_by_v3(&found, id);
    println!(
        "one trace of {} spans of {} services",
        found.len(),
        expected.len()
    );
}
