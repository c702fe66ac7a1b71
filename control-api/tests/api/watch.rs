//! Following revisions.

use control_api::client::{ClientError, DryRun, IfMatch};

use crate::support::{Running, policy};

#[tokio::test]
async fn a_watcher_sees_the_revision_in_force_and_each_new_one() {
    let server = Running::start();
    let client = server.client();
    let mut watch = client.watch(None).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 1);
    for limit in [8, 9] {
        client
            .replace(&policy(limit), IfMatch::Any, DryRun::No)
            .await
            .unwrap();
        let seen = watch.next().await.unwrap().unwrap();
        assert_eq!(seen.revision, u64::from(limit) - 6);
        assert_eq!(seen.author_uid, Some(nix::unistd::geteuid().as_raw()));
    }
}

#[tokio::test]
async fn a_watcher_that_was_away_gets_what_it_missed() {
    let server = Running::start();
    let client = server.client();
    for limit in 1..=4 {
        client
            .replace(&policy(limit), IfMatch::Any, DryRun::No)
            .await
            .unwrap();
    }
    let mut watch = client.watch(Some(2)).await.unwrap();
    for expected in [3, 4, 5] {
        assert_eq!(watch.next().await.unwrap().unwrap().revision, expected);
    }
    // An id that was given out before a restart: what is in force now is news.
    let mut watch = client.watch(Some(900)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 5);
    let bad = server
        .http("GET /v1/watch", &["Last-Event-ID: x"], "")
        .await;
    assert_eq!((bad.status, bad.problem().as_str()), (400, "malformed"));
}

#[tokio::test]
async fn watchers_cannot_take_every_connection() {
    let server = Running::start();
    let client = server.client();
    let mut watchers = Vec::new();
    for _ in 0..32 {
        watchers.push(client.watch(None).await.unwrap());
    }
    let error = client.watch(None).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(problem) if problem.status == 503));
    client.policy().await.unwrap();
}
