//! Reading and writing the policy.

use control_api::client::{ClientError, DryRun, IfMatch};
use expect_test::expect;
use serde_json::json;

use crate::support::{Running, policy};

#[tokio::test]
async fn what_is_put_is_read_back_with_a_new_entity_tag() {
    let server = Running::start();
    let before = server.http("GET /v1/policy", &[], "").await;
    assert!(before.has_header("etag: \"1\""), "{before:?}");
    assert_eq!(before.json(), json!({"version": "weir/v1"}));
    let body = policy(8).to_string();
    let put = server
        .http("PUT /v1/policy", &["If-Match: \"1\""], &body)
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    assert!(put.has_header("etag: \"2\""), "{put:?}");
    expect![[r#"{"revision":2,"dryRun":false,"changes":[{"pointer":"/defaults","after":{"admission":{"limit":8}}}],"warnings":[]}"#]]
        .assert_eq(&put.body);
    let after = server.http("GET /v1/policy", &[], "").await;
    assert_eq!(after.json(), policy(8));
    assert_eq!(server.store.current().policy.defaults().admission.limit, 8);
    let same = server
        .http("GET /v1/policy", &["If-None-Match: \"2\""], "")
        .await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));
}

#[tokio::test]
async fn a_write_needs_to_say_what_it_replaces() {
    let server = Running::start();
    let body = policy(8).to_string();
    let missing = server.http("PUT /v1/policy", &[], &body).await;
    assert_eq!(
        (missing.status, missing.problem().as_str()),
        (428, "unconditional")
    );
    for stale in ["\"7\"", "W/\"1\"", "\"6\", \"7\"", "\"x\""] {
        let header = format!("If-Match: {stale}");
        let answer = server.http("PUT /v1/policy", &[&header], &body).await;
        assert!(matches!(answer.status, 412 | 400), "{stale}: {answer:?}");
    }
    assert_eq!(server.store.current().revision, 1);
    for good in ["*", "\"9\", \"2\"", "3"] {
        let header = format!("If-Match: {good}");
        let body = policy(u32::try_from(good.len()).unwrap()).to_string();
        let answer = server.http("PUT /v1/policy", &[&header], &body).await;
        assert_eq!(answer.status, 200, "{good}: {answer:?}");
    }
}

#[tokio::test]
async fn a_bad_policy_is_refused_with_every_mistake_and_counted() {
    let server = Running::start();
    let body = r#"{"version":"weir/v1","defaults":{"retry":{"attempts":0}},"color":1}"#;
    let answer = server.http("PUT /v1/policy", &["If-Match: *"], body).await;
    assert_eq!(answer.status, 422);
    expect![[r#"{"type":"urn:weir:problem:invalid-policy","title":"The policy has mistakes","status":422,"detail":"2 mistakes; the policy before stays in force","errors":[{"pointer":"/color","detail":"unknown field; expected one of version, defaults, routes, opaquePorts"},{"pointer":"/defaults/retry/attempts","detail":"0 is below the minimum of 1"}]}"#]]
        .assert_eq(&answer.body);
    let answer = server
        .http("PUT /v1/policy", &["If-Match: *"], "version: weir/v1")
        .await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "syntax"));
    let tried = server.http("PUT /v1/policy?dryRun=true", &[], body).await;
    assert_eq!(tried.status, 422);
    assert_eq!(server.store.current().revision, 1);
    assert_eq!(
        server.store.status().updates.api.rejected,
        2,
        "a trial is no update"
    );
}

#[tokio::test]
async fn a_dry_run_tells_everything_and_does_nothing() {
    let server = Running::start();
    let body = r#"{"version":"weir/v1","defaults":{"retry":{"methods":"all"}}}"#;
    let answer = server.http("PUT /v1/policy?dryRun=true", &[], body).await;
    expect![[r#"{"revision":1,"dryRun":true,"changes":[{"pointer":"/defaults","after":{"retry":{"methods":"all"}}}],"warnings":[{"pointer":"/defaults/retry/methods","detail":"all: a call that is not idempotent may be processed more than once"}]}"#]]
        .assert_eq(&answer.body);
    let stale = server
        .http("PUT /v1/policy?dryRun=true", &["If-Match: \"9\""], body)
        .await;
    assert_eq!(stale.status, 412);
    for query in ["dryrun=true", "dryRun=yes", "dryRun="] {
        let line = format!("PUT /v1/policy?{query}");
        let answer = server.http(&line, &["If-Match: *"], body).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "malformed"),
            "{query}"
        );
    }
    assert_eq!(server.store.current().revision, 1);
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names() {
    let server = Running::start();
    let client = server.client();
    let start = json!({"version": "weir/v1", "defaults": {"deadline": "1s", "mode": "observe"}});
    client
        .replace(&start, IfMatch::Revision(1), DryRun::No)
        .await
        .unwrap();
    let patch = json!({"defaults": {"deadline": null, "priority": "critical"}});
    let applied = client
        .patch(&patch, IfMatch::Any, DryRun::No)
        .await
        .unwrap();
    assert_eq!(applied.revision, 3);
    let (revision, patched) = client.policy().await.unwrap();
    assert_eq!(revision, 3);
    assert_eq!(
        patched,
        json!({"version": "weir/v1", "defaults": {"mode": "observe", "priority": "critical"}})
    );
    for refused in [
        json!({"version": null}),
        json!([]),
        json!({"defaults": {"mode": "loud"}}),
    ] {
        let error = client
            .patch(&refused, IfMatch::Any, DryRun::No)
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Refused(problem) if problem.status == 422));
    }
    let error = client
        .patch(&patch, IfMatch::Revision(2), DryRun::No)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Refused(problem) if problem.status == 412));
}

#[tokio::test]
async fn of_concurrent_writers_with_the_same_entity_tag_exactly_one_wins() {
    let server = Running::start();
    let writers: Vec<_> = (1..=16)
        .map(|limit| {
            let client = server.client();
            tokio::spawn(async move {
                let done = client
                    .replace(&policy(limit), IfMatch::Revision(1), DryRun::No)
                    .await;
                match done {
                    Ok(_) => true,
                    Err(ClientError::Refused(problem)) if problem.status == 412 => false,
                    Err(error) => panic!("{error}"),
                }
            })
        })
        .collect();
    let mut wins = 0;
    for writer in writers {
        wins += u32::from(writer.await.unwrap());
    }
    assert_eq!(wins, 1);
    assert_eq!(server.store.current().revision, 2);
}

#[tokio::test]
async fn concurrent_patches_of_any_revision_all_arrive() {
    let server = Running::start();
    let writers: Vec<_> = ["mode", "priority", "deadline", "attemptTimeout"]
        .into_iter()
        .zip(["off", "critical", "2s", "1s"])
        .map(|(field, value)| {
            let client = server.client();
            let patch = json!({"defaults": {field: value}});
            tokio::spawn(async move { client.patch(&patch, IfMatch::Any, DryRun::No).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let (revision, policy) = server.client().policy().await.unwrap();
    assert_eq!(revision, 5);
    assert_eq!(policy["defaults"].as_object().unwrap().len(), 4);
}

#[tokio::test]
async fn a_rollback_is_a_new_revision_with_the_old_document() {
    let server = Running::start();
    let client = server.client();
    for limit in [8, 9] {
        client
            .replace(&policy(limit), IfMatch::Any, DryRun::No)
            .await
            .unwrap();
    }
    let tried = client.rollback(2, IfMatch::Any, DryRun::Yes).await.unwrap();
    assert_eq!((tried.revision, tried.changes.len()), (3, 1));
    let applied = client.rollback(2, IfMatch::Any, DryRun::No).await.unwrap();
    assert_eq!(applied.revision, 4);
    assert_eq!(client.policy().await.unwrap().1, policy(8));
    assert_eq!(client.revision(3).await.unwrap(), policy(9));
    let revisions = client.revisions().await.unwrap();
    let last = revisions.last().unwrap();
    assert_eq!(
        (last.revision, last.rollback_of, last.current),
        (4, Some(2), true)
    );
    assert_eq!(last.author_uid, Some(nix::unistd::geteuid().as_raw()));
    let gone = server.http("POST /v1/revisions/99/rollback", &[], "").await;
    assert_eq!((gone.status, gone.problem().as_str()), (404, "no-revision"));
    let stale = server
        .http("POST /v1/revisions/1/rollback", &["If-Match: \"1\""], "")
        .await;
    assert_eq!(stale.status, 412);
    let bad = server.http("GET /v1/revisions/last", &[], "").await;
    assert_eq!(bad.status, 400);
}
