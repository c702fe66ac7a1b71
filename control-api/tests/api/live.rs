//! What the proxy tells through the API.

use control_api::client::ClientError;
use control_api::view::{DecisionFilter, DestinationState, Origin};

use crate::support::Running;

#[tokio::test]
async fn status_destinations_and_connections_come_from_the_proxy() {
    let server = Running::start();
    let client = server.client();
    let status = client.status().await.unwrap();
    assert_eq!(status.version, "9.9.9");
    assert_eq!(status.policy.revision.revision, 1);
    assert_eq!(status.policy.revision.origin, Origin::BuiltIn);
    let destinations = client.destinations().await.unwrap();
    let destination = destinations.first().unwrap();
    assert_eq!(destination.state, DestinationState::Shedding);
    assert_eq!(destination.sheds["queue-full"], 7);
    assert_eq!(
        client
            .connections()
            .await
            .unwrap()
            .first()
            .unwrap()
            .protocol,
        "h2"
    );
}

#[tokio::test]
async fn decisions_are_filtered() {
    let server = Running::start();
    let client = server.client();
    let client = &client;
    let of = |filter| async move { client.decisions(&filter).await.unwrap() };
    let all = of(DecisionFilter::default()).await;
    assert_eq!((all.len(), all.last().unwrap().sequence), (100, 200));
    let of_trace = DecisionFilter {
        trace: Some("trace-7".to_owned()),
        ..DecisionFilter::default()
    };
    assert_eq!(of(of_trace).await.first().unwrap().sequence, 7);
    let of_destination = DecisionFilter {
        destination: Some("odd & more:80".to_owned()),
        since: Some(100),
        limit: Some(3),
        trace: None,
    };
    let found: Vec<u64> = of(of_destination)
        .await
        .iter()
        .map(|found| found.sequence)
        .collect();
    assert_eq!(found, [195, 197, 199]);
    for query in ["limit=many", "destinaton=x"] {
        let line = format!("GET /v1/decisions?{query}");
        let answer = server.http(&line, &[], "").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "malformed")
        );
    }
}

#[tokio::test]
async fn the_log_level_is_changed_or_left_alone() {
    let server = Running::start();
    let client = server.client();
    client.set_log_level("debug").await.unwrap();
    assert_eq!(*server.proxy.log_level.lock().unwrap(), "debug");
    let error = client.set_log_level("loud!").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(problem) if problem.detail.contains("loud!")));
    let answer = server.http("PUT /v1/log-level", &[], "debug").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (400, "malformed")
    );
    assert_eq!(*server.proxy.log_level.lock().unwrap(), "debug");
}
