//! One call of a person, from service to service, is one trace in Jaeger; its correlation id finds it.

use std::collections::BTreeSet;

use e2e::cluster::jaeger::{self, Span};
use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SOON, until};

const SERVICES: [&str; 6] = [
    "stock", "catalog", "ledger", "payments", "checkout", "gateway",
];

/// The spans of one kind in a trace, by the workloads that exported them.
fn services<'a>(trace: &'a [Span], is: impl Fn(&Span) -> bool) -> BTreeSet<&'a str> {
    trace
        .iter()
        .filter(|span| is(span))
        .map(|span| span.service.as_str())
        .collect()
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_purchase_is_one_trace_that_its_correlation_id_finds() {
    let shop = Namespace::injected("weir-traces");
    shop.policy("defaults: {admission: {limit: 1, queue: {length: 50}}}");
    shop.shop(&SERVICES);
    let client = shop.client("");
    let id = "018f0c3e-7b2a-7c55-9a55-0123456789ab";
    // One call of the application's own with its id; beside it load, so that calls wait for the single permit.
    let load = shop.exec_beside(
        client,
        "app",
        &[
            "/shop",
            "load",
            "--url",
            "http://gateway/buy",
            "--rate",
            "40",
            "--seconds",
            "6",
            "--concurrency",
            "20",
        ],
    );
    for _ in 0..10 {
        let answer = shop.exec_json(
            client,
            "app",
            &[
                "/shop",
                "get",
                "http://gateway/buy",
                "--header",
                &format!("x-request-id:{id}"),
            ],
        );
        assert_eq!(answer["ok"], true, "{answer}");
    }
    drop(load);

    let found = until("a whole trace with a wait in it", SOON, || {
        jaeger::traces("client", "weir.correlation_id", id)
            .into_iter()
            .find(|trace| {
                services(trace, |span| span.name.starts_with("call ")).len() >= 4
                    && !services(trace, |span| span.name == "queue").is_empty()
            })
    });
    let calls = services(&found, |span| span.name.starts_with("call "));
    let attempts = services(&found, |span| span.tag("span.kind") == Some("client"));
    for service in ["client", "gateway", "checkout", "payments", "catalog"] {
        assert!(
            calls.contains(service),
            "{service} has no call in the trace, only {calls:?}"
        );
        assert!(
            attempts.contains(service),
            "{service} has no attempt in the trace, only {attempts:?}"
        );
    }
    let ids: BTreeSet<_> = found
        .iter()
        .filter_map(|span| span.tag("weir.correlation_id"))
        .collect();
    assert_eq!(
        ids.into_iter().collect::<Vec<_>>(),
        [id],
        "every call of the trace has the one correlation id"
    );
    let known: BTreeSet<_> = found.iter().map(|span| span.id.as_str()).collect();
    let lost = found.iter().filter(|span| {
        span.parent
            .as_deref()
            .is_some_and(|parent| !known.contains(parent))
    });
    assert_eq!(lost.count(), 0, "every parent is in the trace: {found:#?}");
    println!(
        "one trace of {} spans, {} services",
        found.len(),
        calls.len()
    );
}
