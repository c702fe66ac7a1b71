//! The `ConfigMap` that pods start from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::api_server::{After, Running};
use crate::pod::policy;
use crate::weirctl::run;

#[tokio::test]
async fn the_config_map_is_made_or_changed_as_the_policy_was_written() {
    let running = Running::start(&["a"]).await;
    running.file("p.yaml", &policy(8));
    let said = run(&running, "push -l app=checkout --save {}/p.yaml").await;
    assert!(
        said.code == 0 && said.out.ends_with("ConfigMap weir-policy written\n"),
        "{said:?}"
    );
    let map = running.cluster.config_map("weir-policy");
    assert_eq!(map["data"], json!({"policy.yaml": policy(8)}));
    running
        .cluster
        .write_config_map("weir-policy", &json!({"other": "1", "policy.yaml": "old"}));
    let said = run(&running, "push -l app=checkout --save {}/p.yaml").await;
    assert_eq!(said.code, 0, "{said:?}");
    let map = running.cluster.config_map("weir-policy");
    assert_eq!(map["data"], json!({"other": "1", "policy.yaml": policy(8)}));
    assert_eq!(map["metadata"]["labels"]["kept"], "yes");
    let said = run(&running, "push -l app=checkout --save {}/p.yaml").await;
    assert!(
        said.out
            .ends_with("ConfigMap weir-policy has this policy already\n"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_config_map_that_another_wrote_meanwhile_stays() {
    for first in [true, false] {
        let running = Running::start(&["a"]).await;
        running.file("p.yaml", &policy(8));
        if !first {
            running
                .cluster
                .write_config_map("weir-policy", &json!({"policy.yaml": "old"}));
        }
        let cluster = Arc::clone(&running.cluster);
        running.cluster.before_exec(move |_, words| {
            if words[0] == "apply" {
                cluster.write_config_map("weir-policy", &json!({"policy.yaml": "another"}));
            }
            After::Runs
        });
        let said = run(&running, "push -l app=checkout --save {}/p.yaml -o json").await;
        assert_eq!(said.code, 1, "{said:?}");
        assert_eq!(said.results(), ["a 1 2 applied"]);
        assert!(
            said.err.contains("was written by somebody else"),
            "{said:?}"
        );
        let map = running.cluster.config_map("weir-policy");
        assert_eq!(map["data"], json!({"policy.yaml": "another"}));
    }
}

#[tokio::test]
async fn one_that_cannot_be_written_stops_the_push_before_it_begins() {
    let running = Running::start(&["a"]).await;
    running.file("p.yaml", &policy(8));
    let cluster = &running.cluster;
    cluster.write_config_map("weir-policy", &json!({"policy.yaml": "old"}));
    let immutable = |maps: &mut BTreeMap<String, Value>| {
        maps.get_mut("weir-policy").unwrap()["immutable"] = true.into();
    };
    immutable(&mut cluster.config_maps.lock().unwrap());
    let said = run(&running, "push -l app=checkout --save {}/p.yaml").await;
    assert!(
        said.code == 1 && said.err.contains("ConfigMap weir-policy is immutable"),
        "{said:?}"
    );
    assert_eq!(cluster.count("", ""), 0, "nobody was asked");
}

#[tokio::test]
async fn it_is_the_one_that_the_pods_mount_or_it_is_said() {
    let running = Running::start(&["a", "b"]).await;
    running.file("p.yaml", &policy(8));
    let mounted = |pod: &str, name: &str| {
        running.cluster.change(pod, |pod| {
            pod["spec"]["volumes"][0]["configMap"]["name"] = name.into();
        });
    };
    mounted("a", "checkout-policy");
    let said = run(&running, "push -l app=checkout --save {}/p.yaml").await;
    assert!(
        said.code == 1 && said.err.contains("checkout-policy, weir-policy"),
        "{said:?}"
    );
    assert_eq!(running.cluster.count("", ""), 0, "nobody was asked");
    mounted("b", "checkout-policy");
    let said = run(&running, "push -l app=checkout --save {}/p.yaml").await;
    assert!(
        said.out.contains("ConfigMap checkout-policy written"),
        "{said:?}"
    );
    let said = run(&running, "push -l app=checkout --save=mine {}/p.yaml").await;
    assert!(
        said.out.contains(
            "a and 1 more start from ConfigMap checkout-policy (weir.dev/policy), not from mine"
        ),
        "{said:?}"
    );
    assert!(!running.cluster.config_map("mine").is_null());
}

#[tokio::test]
async fn the_documented_role_is_what_is_needed() {
    let running = Running::start(&["a"]).await;
    for limit in [8, 9] {
        running.file("p.yaml", &policy(limit));
        run(&running, "push -l app=checkout --save {}/p.yaml").await;
    }
    run(&running, "--pod a status").await;
    let readme = include_str!("../../../k8s/README.md");
    let role = readme
        .split("```yaml\n")
        .find(|block| block.contains("kind: Role\n"))
        .unwrap();
    let role: Value = serde_yaml_ng::from_str(role.split("```").next().unwrap()).unwrap();
    let mut documented = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for verb in rule["verbs"].as_array().unwrap() {
            documented.insert((
                rule["resources"][0].as_str().unwrap(),
                verb.as_str().unwrap(),
            ));
        }
    }
    // Asked for since Kubernetes 1.35, beside the GET that an exec is.
    assert!(documented.remove(&("pods/exec", "create")));
    assert_eq!(documented, *running.cluster.asked.lock().unwrap());
}
