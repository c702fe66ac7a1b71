//! A policy for every pod of a selector.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use expect_test::expect;
use serde_json::{Value, json};

use crate::api_server::{After, Running};
use crate::pod::{BAD_LIMIT, policy};
use crate::weirctl::run;

#[tokio::test]
async fn every_running_pod_with_a_proxy_gets_the_policy() {
    let running = Running::start(&["a", "b", "c", "d", "e"]).await;
    running.file("p.yaml", &policy(8));
    running.cluster.pod("b").write(8);
    running
        .cluster
        .change("c", |pod| pod["spec"]["initContainers"] = Value::Null);
    running
        .cluster
        .change("d", |pod| pod["status"]["phase"] = "Pending".into());
    running
        .cluster
        .change("e", |pod| pod["metadata"]["labels"]["app"] = "other".into());
    let said = run(&running, "push -l app=checkout {}/p.yaml").await;
    expect![[r"
        POD  BEFORE  AFTER  RESULT
        a    1       2      applied
        b    2       2      unchanged
        c    -       -      skipped    no container weir-proxy
        d    -       -      skipped    not running: Pending
    "]]
    .assert_eq(&said.out);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(running.cluster.pod("a").runs(), (8, 2));
    assert_eq!(running.cluster.pod("e").runs().1, 1);
    let again = run(
        &running,
        "push -n shop -l app=checkout {}/p.yaml -o json --wait",
    )
    .await;
    assert_eq!(again.results()[..2], ["a 2 2 unchanged", "b 2 2 unchanged"]);
    assert_eq!(again.err, "", "progress is for people");
}

#[tokio::test]
async fn older_clusters_whose_streams_have_no_end_do_as_well() {
    let running = Running::start(&["a"]).await;
    *running.cluster.protocol.lock().unwrap() = "v4.channel.k8s.io";
    running.file("p.yaml", &policy(8));
    let said = run(&running, "push -l app=checkout {}/p.yaml --wait=30s").await;
    assert_eq!(
        (said.code, running.cluster.runs()),
        (0, vec![(8, 2)]),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_policy_with_mistakes_touches_nobody() {
    let running = Running::start(&["a"]).await;
    running.file(
        "p.yaml",
        "version: weir/v1\ndefaults: {mode: loud, deadline: 5}\n",
    );
    let said = run(&running, "push -l app=checkout {}/p.yaml --save").await;
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("/defaults/mode: ") && said.err.contains("/defaults/deadline: "),
        "{said:?}"
    );
    assert_eq!(running.cluster.count("", ""), 0);
}

#[tokio::test]
async fn trying_it_out_changes_nothing() {
    let running = Running::start(&["a", "b"]).await;
    running.cluster.pod("b").write(8);
    running.file("p.yaml", &policy(8));
    let said = run(
        &running,
        "push -l app=checkout {}/p.yaml --dry-run --canary 1 --save -o json",
    )
    .await;
    assert_eq!(said.results(), ["a 1 1 would-change", "b 2 2 unchanged"]);
    assert_eq!(running.cluster.pod("a").runs().1, 1);
    assert!(running.cluster.config_map("weir-policy").is_null());
}

#[tokio::test]
async fn a_canary_whose_calls_fail_is_rolled_back_and_the_others_are_left_alone() {
    let running = Running::start(&["a", "b", "c", "d"]).await;
    running.file("p.yaml", &policy(BAD_LIMIT));
    let said = run(
        &running,
        "push -l app=checkout {}/p.yaml --canary 25% --watch 1s --save -o json",
    )
    .await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains("errors of payments:80 rose from 0.0% to 50.0% of"),
        "{said:?}"
    );
    assert_eq!(
        said.results(),
        [
            "a 1 3 rolled-back",
            "b 1 1 not-reached",
            "c 1 1 not-reached",
            "d 1 1 not-reached"
        ]
    );
    assert_ne!(running.cluster.pod("a").runs().0, BAD_LIMIT);
    assert!(
        running.cluster.config_map("weir-policy").is_null(),
        "only a push that succeeds is saved"
    );
}

#[tokio::test]
async fn a_later_batch_that_fares_worse_takes_the_whole_push_back() {
    let running = Running::start(&["a", "b"]).await;
    running.file("p.yaml", &policy(8));
    // The second pod starts again right after it was written, and is written by another before it goes back.
    let cluster = Arc::clone(&running.cluster);
    running.cluster.before_exec(move |pod, words| {
        let is_written = pod == "b" && cluster.pod("b").runs() == (8, 2);
        match words[0].as_str() {
            "destinations" if is_written => cluster.pod("b").starts_again(),
            "rollback" if is_written => cluster.pod("b").write(5),
            _ => {}
        }
        After::Runs
    });
    let said = run(
        &running,
        "push -l app=checkout {}/p.yaml --max-unavailable 1 --watch 1s -o json",
    )
    .await;
    assert_eq!(said.code, 1, "{said:?}");
    // What another wrote is not rolled back, but said.
    assert_eq!(said.results(), ["a 1 3 rolled-back", "b 1 2 failed"]);
    assert!(
        said.out
            .contains("not rolled back: another revision came between"),
        "{said:?}"
    );
}

#[tokio::test]
async fn calls_that_end_as_before_let_the_push_go_on_batch_by_batch() {
    let running = Running::start(&["a", "b", "c", "d"]).await;
    running.file("p.yaml", &policy(8));
    let said = run(
        &running,
        "push -l app=checkout {}/p.yaml --canary 1 --max-unavailable 2 --watch 1s",
    )
    .await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(running.cluster.runs(), [(8, 2); 4]);
    let batches: Vec<&str> = said
        .err
        .lines()
        .filter(|line| line.starts_with("batch "))
        .collect();
    assert_eq!(
        batches,
        [
            "batch 1 of 3: 1 pod",
            "batch 2 of 3: 2 pods",
            "batch 3 of 3: 1 pod"
        ]
    );
    assert!(!said.out.contains("too few calls"), "{said:?}");
}

#[tokio::test]
async fn too_few_calls_stop_nothing_but_are_told() {
    let running = Running::start(&["a", "b"]).await;
    running.file("p.yaml", &policy(BAD_LIMIT));
    for pod in ["a", "b"] {
        running
            .cluster
            .pod(pod)
            .calls_a_look
            .store(10, Ordering::Relaxed);
    }
    let said = run(&running, "push -l app=checkout {}/p.yaml --watch 1s").await;
    assert_eq!(said.code, 0, "{said:?}");
    let told = "too few calls to compare (20 before, 20 after; 50 are needed)";
    assert!(said.out.contains(told), "{said:?}");
}

#[tokio::test]
async fn a_pod_that_falls_silent_under_its_new_policy_ends_the_push() {
    let running = Running::start(&["a", "b"]).await;
    running.file("p.yaml", &policy(8));
    let cluster = Arc::clone(&running.cluster);
    running.cluster.before_exec(move |pod, _| {
        if cluster.pod(pod).runs() == (8, 2) {
            return After::Fails;
        }
        After::Runs
    });
    let said = run(
        &running,
        "push -l app=checkout {}/p.yaml --canary 1 --watch 1s -o json",
    )
    .await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("a does not answer since it was written"),
        "{said:?}"
    );
    assert_eq!(said.results(), ["a 1 2 failed", "b 1 1 not-reached"]);
    assert!(
        said.out.contains("not rolled back") && !said.out.contains("too few calls"),
        "{said:?}"
    );
}

#[tokio::test]
async fn waiting_sees_that_another_came_after() {
    let running = Running::start(&["a"]).await;
    running.file("p.yaml", &policy(8));
    let cluster = Arc::clone(&running.cluster);
    running.cluster.before_exec(move |pod, words| {
        if words[0] == "status" && cluster.pod(pod).runs() == (8, 2) {
            cluster.pod(pod).write(5);
        }
        After::Runs
    });
    let said = run(&running, "push -l app=checkout {}/p.yaml --wait -o json").await;
    assert_eq!(
        (said.code, said.results()),
        (1, vec!["a 1 2 failed".to_owned()]),
        "{said:?}"
    );
    assert!(said.out.contains("revision 3 replaced it"), "{said:?}");
}

#[tokio::test]
async fn what_another_wrote_meanwhile_is_not_overwritten() {
    let running = Running::start(&["a", "b", "c"]).await;
    running.file("p.yaml", &policy(8));
    let cluster = Arc::clone(&running.cluster);
    running.cluster.before_exec(move |pod, words| {
        if words[0] == "apply" && cluster.pod(pod).runs().1 == 1 {
            match pod {
                "a" => cluster.pod("a").write(5),
                // As when the ConfigMap was written first.
                "b" => cluster.pod("b").write(8),
                _ => {}
            }
        }
        After::Runs
    });
    let said = run(&running, "push -l app=checkout {}/p.yaml -o json").await;
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(
        said.results(),
        ["a 1 1 failed", "b 1 2 unchanged", "c 1 2 applied"]
    );
    assert!(
        said.out.contains("another revision came between"),
        "{said:?}"
    );
    assert_eq!(running.cluster.runs(), [(5, 2), (8, 2), (8, 2)]);
}

#[tokio::test]
async fn a_pod_that_is_deleted_meanwhile_is_no_failure() {
    let running = Running::start(&["a", "b"]).await;
    running.file("p.yaml", &policy(8));
    let cluster = Arc::clone(&running.cluster);
    running.cluster.before_exec(move |pod, words| {
        if pod == "a" && words[0] == "apply" {
            cluster.pods.lock().unwrap().remove("a");
        }
        After::Runs
    });
    let said = run(&running, "push -l app=checkout {}/p.yaml -o json").await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.results(), ["a 1 1 gone", "b 1 2 applied"]);
}

#[tokio::test]
async fn missing_rights_are_named() {
    let running = Running::start(&["a"]).await;
    running.file("p.yaml", &policy(8));
    running.cluster.forbid("pods/exec");
    let said = run(&running, "push -l app=checkout {}/p.yaml").await;
    assert_eq!(said.code, 1);
    assert!(
        said.out
            .contains("namespace shop: get and create pods/exec"),
        "{said:?}"
    );
    running.cluster.forbid("configmaps");
    let said = run(&running, "push -l app=checkout {}/p.yaml --save").await;
    assert!(said.err.contains("get configmaps"), "{said:?}");
    running.cluster.forbid("pods");
    let said = run(&running, "push -l app=checkout {}/p.yaml").await;
    assert!(said.err.contains("namespace shop: list pods"), "{said:?}");
    let said = run(&running, "--pod a status").await;
    assert!(said.err.contains("namespace shop: get pods"), "{said:?}");
}

#[tokio::test]
async fn a_selector_without_proxies_says_what_to_look_at() {
    let running = Running::start(&["a"]).await;
    running.file("p.yaml", &policy(8));
    let said = run(&running, "push -l app=absent {}/p.yaml").await;
    assert!(
        said.code == 1 && said.err.contains("no pods in namespace shop"),
        "{said:?}"
    );
    running
        .cluster
        .change("a", |pod| pod["spec"]["initContainers"] = json!([]));
    let said = run(&running, "push -l app=checkout {}/p.yaml").await;
    assert!(
        said.code == 1 && said.err.contains("a: no container weir-proxy"),
        "{said:?}"
    );
    let said = run(&running, "push --selector= {}/p.yaml").await;
    assert!(
        said.code == 2 && said.err.contains("every pod of the namespace"),
        "{said:?}"
    );
    let said = run(&running, "push --context nowhere -l app=checkout {}/p.yaml").await;
    assert!(said.code == 1 && said.err.contains("list pods"), "{said:?}");
    let said = run(&running, "push --context absent -l app=checkout {}/p.yaml").await;
    assert!(
        said.code == 1 && said.err.contains("is KUBECONFIG right?"),
        "{said:?}"
    );
}
