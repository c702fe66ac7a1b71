//! The chart and the code say the same: options, defaults, version, ports, paths.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and its helpers are tests too"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use control_api::well_known;
use expect_test::expect_file;
use k8s::options::{ANNOTATIONS, Options};
use k8s::settings::Settings;
use serde_json::{Value, json};

const VALUES: &str = include_str!("../../helm/weir/values.yaml");
const SCHEMA: &str = include_str!("../../helm/weir/values.schema.json");

fn values() -> Value {
    serde_yaml_ng::from_str(VALUES).unwrap()
}

#[test]
fn the_charts_options_are_the_codes_defaults() {
    let settings = json!({"options": values()["proxy"]["options"]}).to_string();
    let options = Settings::parse(&settings).unwrap().options;
    assert_eq!(options, Options::default());
}

#[test]
fn the_schema_has_every_annotation_as_an_option() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let options = &schema["properties"]["proxy"]["properties"]["options"]["properties"];
    let known: BTreeSet<&str> = ANNOTATIONS.iter().map(|known| known.name).collect();
    let named: BTreeSet<&str> = options
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(named, known);
}

#[test]
fn every_value_is_in_the_schema_and_has_a_comment() {
    fn missing(values: &Value, schema: &Value, place: &str, into: &mut Vec<String>) {
        let (Some(values), Some(known)) = (values.as_object(), schema["properties"].as_object())
        else {
            return;
        };
        assert_eq!(schema["additionalProperties"], false, "{place}");
        for (name, value) in values {
            match known.get(name) {
                Some(schema) => missing(value, schema, &format!("{place}/{name}"), into),
                None => into.push(format!("{place}/{name}")),
            }
        }
    }
    let mut unknown = Vec::new();
    missing(
        &values(),
        &serde_json::from_str(SCHEMA).unwrap(),
        "",
        &mut unknown,
    );
    assert_eq!(unknown, [""; 0]);
    let lines: Vec<&str> = VALUES.lines().collect();
    for pair in lines.windows(2) {
        let is_leaf = pair[1].split_once(": ").is_some() && !pair[1].contains('#');
        assert!(
            !is_leaf || pair[0].trim_start().starts_with("# -- "),
            "no comment: {}",
            pair[1]
        );
    }
}

#[test]
fn a_typo_is_an_error_at_every_level_that_is_ours() {
    /// What Kubernetes and parent charts know better.
    const OPEN: [&str; 9] = [
        "global",
        "issuerRef",
        "ipBlock",
        "namespaceSelector",
        "nodeAffinity",
        "podAffinity",
        "podAntiAffinity",
        "podSelector",
        "valueFrom",
    ];
    fn open(schema: &Value, name: &str, into: &mut Vec<String>) {
        if schema["type"] == "object" && schema.get("additionalProperties").is_none() {
            into.push(name.to_owned());
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            open(inner, name, into);
        }
        if let Some(items) = schema.get("items") {
            open(items, name, into);
        }
    }
    let mut found = Vec::new();
    open(&serde_json::from_str(SCHEMA).unwrap(), "", &mut found);
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, BTreeSet::from(OPEN));
}

/// The comments of the values, each with the place of its value.
fn comments() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut place: Vec<String> = Vec::new();
    let mut comment = None;
    for line in VALUES.lines() {
        let code = line.trim_start();
        if let Some(text) = code.strip_prefix("# -- ") {
            comment = Some(text.to_owned());
        } else if let Some((name, _)) = code.split_once(':').filter(|_| !code.starts_with('#')) {
            place.truncate((line.len() - code.len()) / 2);
            place.push(name.to_owned());
            found.extend(comment.take().map(|text| (place.clone(), text)));
        }
    }
    found
}

#[test]
fn the_readme_has_every_value() {
    let note = "<!-- Written by `UPDATE_EXPECT=1 cargo test --package k8s --test chart`. -->\n";
    let readme = include_str!("../../helm/weir/README.md");
    let (head, _) = readme.split_once(note).unwrap();
    let mut page = format!("{head}{note}\n| value | default | meaning |\n|---|---|---|\n");
    for (place, text) in comments() {
        let default = place
            .iter()
            .fold(values(), |values, name| values[name].clone());
        let name = place.join(".");
        writeln!(page, "| `{name}` | `{default}` | {text} |").unwrap();
    }
    expect_file!["../../helm/weir/README.md"].assert_eq(&page);
}

#[test]
fn the_charts_facts_are_the_well_known_ones() {
    let chart: Value = serde_yaml_ng::from_str(include_str!("../../helm/weir/Chart.yaml")).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let image = Settings::parse("").unwrap().image;
    let listed = chart["annotations"]["artifacthub.io/images"].as_str();
    assert!(listed.unwrap().contains(&format!("image: {image}\n")));
    assert_eq!(
        values()["proxy"]["options"]["proxy-uid"],
        well_known::PROXY_UID
    );
    let deployment = include_str!("../../helm/weir/templates/injector-deployment.yaml");
    for fact in [
        format!("{}/weir-injector", well_known::kubernetes::BINARY_DIR),
        format!(
            "name: {}, containerPort: {}",
            well_known::kubernetes::ADMIN_PORT_NAME,
            well_known::ADMIN_PORT
        ),
    ] {
        assert!(deployment.contains(&fact), "{fact}");
    }
}
