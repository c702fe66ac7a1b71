use std::time::Duration;

use expect_test::expect_file;

use super::*;
use crate::telemetry::fixture::{self, FakeProxy, millis};
use crate::telemetry::metrics::declared;
use crate::telemetry::metrics::labels::Side;
use crate::telemetry::metrics::{Detection, Speaks};
use crate::telemetry::record::Outcome;

fn two_scopes() -> FakeProxy {
    let shared = Destination {
        name: "payments:80".to_owned(),
        state: DestinationState::Queueing,
        limit: 8,
        in_flight: 8,
        queue_length: 3,
        oldest_wait_ms: 250.0,
        budget_balance: 2.5,
        ejected_endpoints: 1,
        observed: [("retried".to_owned(), 5)].into(),
        ..Destination::default()
    };
    let scoped = Destination {
        scope: Some("pay \"now\"".to_owned()),
        state: DestinationState::Healthy,
        oldest_wait_ms: 0.0,
        ..shared.clone()
    };
    FakeProxy {
        revision: 7,
        destinations: vec![scoped, shared],
    }
}

fn refused() -> Vec<Refused> {
    let http1 = |cause, count| Refused {
        protocol: "http1",
        cause,
        count,
    };
    vec![
        http1(Cause::Malformed("chunk_size"), 2),
        http1(Cause::HeaderLimit, 1),
        http1(Cause::Malformed("syntax"), 0),
    ]
}

fn fixed_process() -> ProcessFacts {
    ProcessFacts {
        resident: Some(12 << 20),
        proportional: Some(9 << 20),
        descriptors: Some(20),
        descriptors_max: Some(1024),
        cpu: Some(Duration::from_millis(1250)),
        started: Some(Duration::from_secs(1_700_000_000)),
    }
}

#[tokio::test(start_paused = true)]
async fn the_page_is_what_it_was() {
    let telemetry = crate::telemetry::Telemetry::default();
    let metrics = telemetry.metrics();
    let destination = metrics.destination("payments:80");
    telemetry.record(&destination, fixture::answered_call());
    telemetry.record(&destination, fixture::retried_call());
    telemetry.record(&destination, fixture::shed_call());
    metrics.detected(Detection::Http1);
    metrics.detected(Detection::TimedOut);
    metrics.worker(0).late_by(millis(4));
    metrics.worker(0).set_busy(millis(1500));
    let connection = metrics.connection(Side::Downstream, Speaks::Http1);
    connection.received(100);
    let proxy = Arc::new(two_scopes());
    let page = Exposition::of_process(metrics.clone(), proxy, refused, fixed_process);
    expect_file!["page.txt"].assert_eq(&page.text().unwrap());
}

#[tokio::test(start_paused = true)]
async fn every_declared_metric_is_on_the_page_and_nothing_else() {
    let metrics = Arc::new(Metrics::default());
    let page = Exposition::new(metrics, Arc::new(FakeProxy::default()), Vec::new)
        .text()
        .unwrap();
    let scraped: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let mut declared: Vec<_> = declared::ALL
        .iter()
        .map(|metric| {
            metric
                .name
                .trim_end_matches("_total")
                .trim_end_matches("_info")
        })
        .collect();
    let mut sorted = scraped.clone();
    sorted.sort_unstable();
    declared.sort_unstable();
    assert_eq!(sorted, declared);
}

#[tokio::test(start_paused = true)]
async fn a_hostile_destination_name_cannot_break_out_of_its_label() {
    let telemetry = crate::telemetry::Telemetry::default();
    let destination = telemetry.metrics().destination("a\"} 1\nfake{x=\"\\");
    telemetry.record(&destination, fixture::answered_call());
    let page = Exposition::new(
        telemetry.metrics().clone(),
        Arc::new(FakeProxy::default()),
        Vec::new,
    );
    let page = page.text().unwrap();
    assert!(!page.lines().any(|line| line.starts_with("fake")));
    assert!(
        page.contains(r#"destination="a\"} 1\nfake{x=\"\\""#),
        "{page}"
    );
}

#[test]
fn destinations_beyond_the_bound_are_added_up() {
    let all = (0..300).map(|number| Destination {
        name: format!("host-{number:03}:80"),
        limit: 10,
        ..Destination::default()
    });
    let folded = folded(all.collect());
    assert_eq!(folded.len(), DESTINATIONS_MAX + 1);
    let other = folded.last().unwrap();
    assert_eq!((other.name.as_str(), other.limit), (OTHER, 440));
}

#[test]
fn a_call_is_counted_once_by_its_outcome() {
    let telemetry = crate::telemetry::Telemetry::default();
    let destination = telemetry.metrics().destination("payments:80");
    telemetry.record(&destination, fixture::retried_call());
    assert_eq!(destination.calls_ended(Outcome::Answered), 1);
    assert_eq!(destination.attempts_sent(), 2);
    assert_eq!(destination.retries_sent(), 1);
    assert_eq!(destination.attempts_shed(), 0);
}
