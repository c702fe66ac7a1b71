//! The chart's alerts and dashboards go by nothing that weir and its injector do not export: real scrapes are looked into.
//!
//! With `WEIR_E2E_MONITORING_DIR` the scrapes, and the dashboards' expressions as rules, are left there for promtool.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use e2e::origin::Origin;
use e2e::process::Process;
use e2e::weir::{Weir, free_addr};
use e2e::{binaries, http1, promql, wait};
use serde_json::Value;

/// The labels that Prometheus sets by the chart's monitors.
const TARGET_LABELS: [&str; 4] = ["namespace", "pod", "workload", "job"];

/// Their jobs.
const JOBS: [&str; 2] = ["weir-proxy", "weir-injector"];

/// An expression, and where it stands.
struct Expression {
    place: String,
    text: String,
}

fn chart(path: &str) -> PathBuf {
    binaries::repository().join("helm/weir").join(path)
}

fn alerts() -> Vec<Expression> {
    let text = fs::read_to_string(chart("alerts/weir.yaml")).expect("there are alerts");
    let file: Value = serde_yaml_ng::from_str(&text).expect("it is YAML");
    let groups = file["groups"].as_array().expect("it has groups");
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("it has rules"));
    let text = |rule: &Value, field: &str| rule[field].as_str().expect(field).to_owned();
    rules
        .map(|rule| Expression {
            place: text(rule, "alert"),
            text: text(rule, "expr"),
        })
        .collect()
}

fn dashboards() -> Vec<(String, Value)> {
    let entries = fs::read_dir(chart("dashboards")).expect("there are dashboards");
    let mut all: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("it can be read").path();
            let text = fs::read_to_string(&path).expect("it is text");
            let name = path.file_stem().expect("it has a name");
            let name = name.to_string_lossy().into_owned();
            (name, serde_json::from_str(&text).expect("it is JSON"))
        })
        .collect();
    all.sort_by(|left: &(String, Value), right| left.0.cmp(&right.0));
    assert!(all.len() >= 3);
    all
}

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// What panels ask, and what variables do.
fn questions() -> Vec<Expression> {
    let mut all = Vec::new();
    for (name, board) in dashboards() {
        for panel in items(&board, "panels") {
            let title = panel["title"].as_str().expect("a panel has a title");
            for target in items(panel, "targets") {
                all.push(Expression {
                    place: format!("{name}: {title}"),
                    text: target["expr"].as_str().expect("it asks").to_owned(),
                });
            }
        }
        for variable in items(&board["templating"], "list") {
            let query = variable["query"]["query"].as_str().unwrap_or_default();
            let inner = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'));
            if let Some((metric, label)) = inner.and_then(|inner| inner.rsplit_once(", ")) {
                all.push(Expression {
                    place: format!("{name}: ${}", variable["name"]),
                    text: format!("count by ({label}) ({metric})"),
                });
            }
        }
    }
    all
}

/// What a scrape has: each metric's labels with their values.
#[derive(Default)]
struct Exported(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Exported {
    fn add(&mut self, page: &str) {
        let samples = page
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        for line in samples {
            // A sample is a selector with one value a label.
            let sample = promql::names(line.rsplit_once(' ').expect("it has a value").0);
            for selector in sample.selectors {
                let labels = self.0.entry(selector.metric).or_default();
                for matcher in selector.matchers {
                    labels
                        .entry(matcher.label)
                        .or_default()
                        .extend(matcher.values);
                }
            }
        }
    }

    /// What an expression goes by that is not there.
    fn missing(&self, expression: &str) -> Vec<String> {
        let names = promql::names(expression);
        let mut missing = Vec::new();
        let mut labels = BTreeSet::from(TARGET_LABELS);
        assert!(!names.selectors.is_empty(), "it asks nothing: {expression}");
        for selector in &names.selectors {
            let metric = &selector.metric;
            let Some(known) = self.0.get(metric) else {
                missing.push(format!("no metric {metric}"));
                continue;
            };
            labels.extend(known.keys().map(String::as_str));
            for matcher in &selector.matchers {
                let label = &matcher.label;
                let job = JOBS.map(str::to_owned).into();
                let values = match label.as_str() {
                    "job" => Some(&job),
                    _ if TARGET_LABELS.contains(&&**label) => continue,
                    _ => known.get(label),
                };
                match values {
                    None => missing.push(format!("{metric} has no label {label}")),
                    Some(values) => missing.extend(
                        (matcher.values.iter())
                            .filter(|value| !values.contains(*value))
                            .map(|value| format!("{metric} has no {label}={value:?}")),
                    ),
                }
            }
        }
        let grouped = names.labels.iter();
        let unknown = grouped.filter(|label| !labels.contains(&***label));
        missing.extend(unknown.map(|label| format!("no label {label}")));
        missing
    }
}

/// A scrape of a weir that has retried, refused, and observed.
fn of_weir() -> String {
    let origin = Origin::start(&["--fail-first", "1"]);
    let weir = Weir::run_with(
        "version: weir/v1\n\
         defaults: {admission: {limit: 1, queue: {length: 0}}}\n\
         routes: [{name: watched, match: {authority: watched.test}, mode: observe, admission: {limit: 1, queue: {length: 0}}}]\n",
    );
    let get = |host: &str, path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")
    };
    let mut connection = weir.http(origin.addr());
    let retried = connection.exchange(get("shop.test", "/", "X-E2e-Id: 1\r\n"));
    assert_eq!(retried.expect("an answer").status(), 200);
    for (host, status) in [("shop.test", 503), ("watched.test", 200)] {
        let before = origin.calls();
        let mut busy = weir.http(origin.addr());
        busy.send(get(host, "/delay/1000", ""))
            .expect("weir reads it");
        wait::until_true("the call to be in flight", wait::LONG, || {
            origin.calls() > before
        });
        let second = weir.http(origin.addr()).exchange(get(host, "/", ""));
        assert_eq!(second.expect("an answer").status(), status, "{host}");
    }
    weir.metrics()
}

/// A scrape of an injector that has answered nothing yet.
fn of_injector() -> String {
    let certs = tempfile::tempdir().expect("a temporary folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(certs.path().join("tls.crt"), made.cert.pem()).expect("the folder is ours");
    fs::write(
        certs.path().join("tls.key"),
        made.signing_key.serialize_pem(),
    )
    .expect("the folder is ours");
    let (reviews, admin): (SocketAddr, SocketAddr) = (free_addr(), free_addr());
    let mut command = Command::new(binaries::weir_injector());
    command
        .args(["serve", "--addr", &reviews.to_string()])
        .args(["--admin-addr", &admin.to_string(), "--certs"])
        .arg(certs.path());
    let injector = Process::spawn("weir-injector", &mut command);
    let page = wait::until("the injector's metrics", wait::LONG, || {
        http1::get(admin, "/metrics").ok().map(|page| page.text())
    });
    drop(injector);
    page
}

/// The dashboards' expressions as a file of rules, with Grafana's variables filled in.
fn as_rules(questions: &[Expression]) -> String {
    let mut text = "groups:\n- name: dashboards\n  rules:\n".to_owned();
    for (number, question) in questions.iter().enumerate() {
        let expression = question.text.replace("$__rate_interval", "5m");
        let expression = Value::from(expression.replace('$', "")).to_string();
        writeln!(
            text,
            "  # {}\n  - {{record: 'question:{number}', expr: {expression}}}",
            question.place
        )
        .expect("text can be written");
    }
    text
}

#[test]
fn alerts_and_dashboards_go_by_what_is_really_exported() {
    let (weir, injector, questions) = (of_weir(), of_injector(), questions());
    if let Some(folder) = std::env::var_os("WEIR_E2E_MONITORING_DIR").map(PathBuf::from) {
        fs::create_dir_all(&folder).expect("the folder can be made");
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("the folder can be written to");
        };
        write("weir.txt", &weir);
        write("weir-injector.txt", &injector);
        write("dashboards.yaml", &as_rules(&questions));
    }
    let mut exported = Exported::default();
    exported.add(&weir);
    exported.add(&injector);
    // Prometheus' own.
    exported.add("up 1");
    let mut problems = String::new();
    for expression in alerts().iter().chain(&questions) {
        for missing in exported.missing(&expression.text) {
            writeln!(problems, "{}: {missing}", expression.place).expect("text can be written");
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
    // The check itself: each of these would be noticed.
    for wrong in [
        "weir_outbound_request_total",
        r#"weir_outbound_rejected_total{reason="queue_ful"}"#,
        r#"weir_outbound_rejected_total{cause="queue_full"}"#,
        "sum by (destinations) (weir_outbound_limit)",
        r#"up{job="weir"}"#,
        "rates(weir_outbound_requests_total[5m])",
    ] {
        assert!(!exported.missing(wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn the_monitors_set_the_labels_and_jobs_that_alerts_and_dashboards_go_by() {
    let monitors = fs::read_to_string(chart("templates/monitors.yaml")).expect("there are some");
    for job in JOBS {
        assert!(monitors.contains(&format!("{{targetLabel: job, replacement: {job}}}")));
    }
    for label in TARGET_LABELS {
        assert!(
            monitors.contains(&format!("targetLabel: {label}")),
            "{label}"
        );
    }
}

#[test]
fn dashboards_can_be_imported_anywhere() {
    let mut ids = BTreeSet::new();
    for (name, board) in dashboards() {
        let id = board["uid"]
            .as_str()
            .expect("it has a fixed uid")
            .to_owned();
        assert_eq!(id, format!("weir-{name}"));
        assert!(ids.insert(id));
        assert!(board.get("__inputs").is_none() && board["id"].is_null());
        let variables: BTreeSet<&str> = items(&board["templating"], "list")
            .iter()
            .filter_map(|variable| variable["name"].as_str())
            .collect();
        assert!(variables.contains("datasource") && variables.contains("namespace"));
        let mut places = BTreeSet::new();
        for panel in items(&board, "panels") {
            let place = &panel["gridPos"];
            let cell = |field: &str| place[field].as_u64().expect("a place");
            for column in cell("x")..cell("x") + cell("w") {
                for line in cell("y")..cell("y") + cell("h") {
                    let is_free = column < 24 && places.insert((column, line));
                    assert!(is_free, "{name}: {} overlaps", panel["title"]);
                }
            }
            for target in items(panel, "targets") {
                assert_eq!(target["datasource"]["uid"], "${datasource}");
                let text = target["expr"].as_str().expect("it asks");
                for used in text.split('$').skip(1) {
                    let end = used.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    let used = &used[..end.unwrap_or(used.len())];
                    let is_known = used == "__rate_interval" || variables.contains(used);
                    assert!(is_known, "{name}: {}: ${used}", panel["title"]);
                }
            }
        }
    }
}
