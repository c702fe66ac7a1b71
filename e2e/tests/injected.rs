//! What the injector writes into pods is what `weir` takes: the snapshots of injected pods are run here.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e::{binaries, process, wait};
use serde_json::Value;

/// The injected pods that the tests of `k8s` hold.
fn pods() -> Vec<(PathBuf, Value)> {
    let folder = binaries::repository().join("k8s/tests/injected");
    let entries = fs::read_dir(folder).expect("there are snapshots");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let text = fs::read_to_string(&path).expect("it is text");
            let pod = serde_json::from_str(&text).expect("it is JSON");
            (path, pod)
        })
        .collect()
}

/// The containers of this name, of either list.
fn containers(name: &str) -> Vec<(PathBuf, Value)> {
    let all = pods().into_iter().flat_map(|(path, pod)| {
        let lists = ["initContainers", "containers"].map(|list| pod["spec"][list].clone());
        let containers = lists
            .into_iter()
            .filter_map(|list| list.as_array().cloned());
        containers
            .flatten()
            .map(move |container| (path.clone(), container))
            .collect::<Vec<_>>()
    });
    let found: Vec<_> = all
        .filter(|(_, container)| container["name"] == name)
        .collect();
    assert!(found.len() > 1, "no pod has {name}");
    found
}

#[test]
fn weir_redirect_takes_the_arguments_of_its_container() {
    for (path, container) in containers("weir-redirect") {
        let arguments = container["args"].as_array().expect("it has arguments");
        let mut command = Command::new(binaries::weir());
        command
            .args(arguments.iter().filter_map(Value::as_str))
            .arg("--print");
        let done = process::run(&mut command, wait::LONG);
        assert!(done.status.success(), "{}: {done:?}", path.display());
        assert!(done.stdout.contains("redirect to :19401"), "{done:?}");
    }
}

#[test]
fn every_variable_of_the_proxys_container_is_a_setting() {
    let page = fs::read_to_string(binaries::repository().join("docs/settings.md"))
        .expect("there is the page of settings");
    for (path, container) in containers("weir-proxy") {
        assert_eq!(container["args"], serde_json::json!(["proxy"]));
        let env = container["env"].as_array().expect("it has variables");
        let names: BTreeSet<&str> = env.iter().filter_map(|one| one["name"].as_str()).collect();
        for name in names.iter().filter(|name| name.starts_with("WEIR_")) {
            let row = format!("| `{name}` |");
            assert!(page.contains(&row), "{}: {name}", path.display());
        }
        assert!(names.contains("OTEL_SERVICE_NAME"), "{names:?}");
    }
}
