//! Every alert says what it means, what to look at and what to do; `docs/runbook.md` is written from what they say.
//!
//! `UPDATE_EXPECT=1 cargo test --package k8s --test monitoring` writes it anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and its helpers are tests too"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use expect_test::expect_file;
use k8s::reason::SKIPS;
use serde_json::Value;

const ALERTS: &str = include_str!("../../helm/weir/alerts/weir.yaml");
const UNIT_TESTS: &str = include_str!("alerts.yaml");

fn alerts() -> Vec<Value> {
    let file: Value = serde_yaml_ng::from_str(ALERTS).unwrap();
    let groups = file["groups"].as_array().unwrap();
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap());
    rules.cloned().collect()
}

fn annotation<'a>(alert: &'a Value, name: &str) -> &'a str {
    alert["annotations"][name]
        .as_str()
        .unwrap_or_else(|| panic!("{} has no {name}", alert["alert"]))
}

#[test]
fn every_alert_says_what_to_do_and_where_that_is_written() {
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        for needed in ["summary", "description"] {
            assert!(annotation(&alert, needed).len() > 20, "{name}: {needed}");
        }
        for part in ["**Means** ", "**Look at** ", "**Do** "] {
            assert!(
                annotation(&alert, "runbook").contains(part),
                "{name}: {part}"
            );
        }
        let place = format!("/docs/runbook.md#{}", name.to_lowercase());
        assert!(
            annotation(&alert, "runbook_url").ends_with(&place),
            "{name}"
        );
        // promtool sees it fire.
        let fires = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"");
        assert!(UNIT_TESTS.contains(&fires), "{name} has no unit test");
    }
}

#[test]
fn every_reason_to_leave_a_pod_raises_an_alert_but_those_that_are_of_its_kind() {
    let all = alerts();
    let alert = all.iter().find(|it| it["alert"] == "WeirPodsNotInjected");
    let expression = alert.unwrap()["expr"].as_str().unwrap();
    let (_, codes) = expression.split_once("{result=~\"").unwrap();
    let (codes, _) = codes.split_once('"').unwrap();
    let known: BTreeSet<&str> = codes.split('|').chain(OF_ITS_KIND).collect();
    let codes: BTreeSet<&str> = SKIPS.iter().map(|(code, _)| *code).collect();
    assert_eq!(known, codes);
}

/// Asked for, done already, or nothing that its owner could mend while the pod is what it is.
const OF_ITS_KIND: [&str; 6] = [
    "injection_disabled",
    "mirror_pod",
    "already_injected",
    "host_network_enabled",
    "windows_pod",
    "other_mesh",
];

#[test]
fn the_runbook_has_every_alert() {
    let mut page = HEAD.to_owned();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let severity = alert["labels"]["severity"].as_str().unwrap();
        let runbook = annotation(&alert, "runbook").trim();
        let expression = alert["expr"].as_str().unwrap().trim();
        let wait = alert["for"].as_str().unwrap_or("0m");
        write!(
            page,
            "\n## {name}\n*{severity}*\n\n{runbook}\n\n<details><summary>Expression, for {wait}</summary>\n\n```text\n{expression}\n```\n</details>\n"
        )
        .unwrap();
    }
    expect_file!["../../docs/runbook.md"].assert_eq(&page);
}

const HEAD: &str = "<!-- Written by `UPDATE_EXPECT=1 cargo test --package k8s --test monitoring` from helm/weir/alerts/weir.yaml. -->
# Runbook

What the chart's alerts (`monitoring.prometheusRule`) mean, what to look at, and what to do. The dashboards come with `monitoring.dashboards.enabled`.

Where it says `weirctl`, it is meant in the pod:
`kubectl exec --namespace NAMESPACE POD --container weir-proxy -- weirctl destinations`.
If weir itself is in the way of an incident: `kubectl label namespace NAMESPACE weir.dev/inject-` and `kubectl --namespace NAMESPACE rollout restart deployment` take it out.
";
