//! What becomes of a push while its pods are watched.

use std::sync::Arc;

use serde_json::Value;

use crate::api_server::{After, Running};
use crate::pod::policy;
use crate::weirctl::run;

const CANARY: &str = "push -l app=checkout {}/p.yaml --canary 1 --watch 1s --wait --save -o json";

/// Pods `a` and `b`; this is done with `a` when it is looked at under its new policy.
async fn with_canary(then: impl Fn(&Running) -> After + Send + Sync + 'static) -> Arc<Running> {
    let running = Arc::new(Running::start(&["a", "b"]).await);
    running.file("p.yaml", &policy(8));
    let watched = Arc::downgrade(&running);
    running.cluster.before_exec(move |pod, words| {
        let running = watched.upgrade().unwrap();
        if pod == "a" && words[0] == "destinations" && running.cluster.pod("a").runs() == (8, 2) {
            return then(&running);
        }
        After::Runs
    });
    running
}

#[tokio::test]
async fn a_proxy_that_starts_again_takes_the_push_back() {
    let running = with_canary(|running| {
        running.cluster.pod("a").starts_again();
        After::Runs
    })
    .await;
    let said = run(&running, CANARY).await;
    assert_eq!(
        (said.code, said.results()),
        (
            1,
            vec![
                "a 1 3 rolled-back".to_owned(),
                "b 1 1 not-reached".to_owned()
            ]
        ),
        "{said:?}"
    );
    for text in [&said.out, &said.err] {
        assert!(
            text.contains("the proxy of a ended under the new policy"),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn a_proxy_that_forgot_its_earlier_policy_is_given_it_again() {
    let running = Running::start(&["a"]).await;
    running.file("p.yaml", &policy(8));
    let cluster = Arc::clone(&running.cluster);
    cluster.pod("a").write(5);
    running.cluster.before_exec(move |_, words| {
        match words[0].as_str() {
            "rollback" => return After::Fails,
            "destinations" if cluster.pod("a").runs() == (8, 3) => cluster.pod("a").starts_again(),
            _ => {}
        }
        After::Runs
    });
    let said = run(&running, CANARY).await;
    assert_eq!(said.results(), ["a 2 4 rolled-back"], "{said:?}");
    assert_eq!(running.cluster.runs(), [(5, 4)]);
}

#[tokio::test]
async fn a_canary_that_another_wrote_is_no_proof() {
    let running = with_canary(|running| {
        running.cluster.pod("a").write(5);
        After::Runs
    })
    .await;
    let said = run(&running, CANARY).await;
    assert_eq!(
        (said.code, said.results()),
        (
            1,
            vec!["a 1 2 failed".to_owned(), "b 1 1 not-reached".to_owned()]
        ),
        "{said:?}"
    );
    assert!(said.out.contains("revision 3 replaced it"), "{said:?}");
    assert_eq!(running.cluster.pod("a").runs(), (5, 3), "it stays");
    assert!(running.cluster.config_map("weir-policy").is_null());
}

#[tokio::test]
async fn a_canary_that_is_gone_is_no_proof() {
    let running = with_canary(|running| {
        running.cluster.pods.lock().unwrap().remove("a");
        After::Fails
    })
    .await;
    let said = run(&running, CANARY).await;
    assert_eq!(
        (said.code, said.results()),
        (
            1,
            vec!["a 1 2 gone".to_owned(), "b 1 1 not-reached".to_owned()]
        ),
        "{said:?}"
    );
    assert!(
        said.err.contains("no pod of this batch is left"),
        "{said:?}"
    );
    assert!(running.cluster.config_map("weir-policy").is_null());
}

#[tokio::test]
async fn a_pod_that_another_of_its_name_replaced_is_gone_and_did_not_start_again() {
    let running = with_canary(|running| {
        running.cluster.pod("a").starts_again();
        let change = |pod: &mut Value| pod["metadata"]["uid"] = "another".into();
        running.cluster.change("a", change);
        After::Runs
    })
    .await;
    let said = run(&running, CANARY).await;
    assert_eq!(
        said.results(),
        ["a 1 2 gone", "b 1 1 not-reached"],
        "{said:?}"
    );
}

#[tokio::test]
async fn a_push_whose_pods_are_gone_before_they_are_read_is_none() {
    let running = Running::start(&["a"]).await;
    running.file("p.yaml", &policy(8));
    let cluster = Arc::clone(&running.cluster);
    running.cluster.before_exec(move |pod, _| {
        cluster.pods.lock().unwrap().remove(pod);
        After::Fails
    });
    let said = run(&running, "push -l app=checkout {}/p.yaml --save -o json").await;
    assert_eq!(
        (said.code, said.results()),
        (1, vec!["a null null gone".to_owned()]),
        "{said:?}"
    );
    assert!(said.err.contains("no pod is left"), "{said:?}");
    assert!(running.cluster.config_map("weir-policy").is_null());
}
