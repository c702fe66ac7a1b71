//! What reviewers forget: module docs, the direction of crates and modules, the length of functions, no unsafe code.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::binaries::repository;

/// Crates and the workspace's crates that each may use.
const CRATES: &[(&str, &[&str])] = &[
    ("control-api", &[]),
    ("sidecar", &["control-api"]),
    ("k8s", &["control-api"]),
    ("e2e", &[]),
];

/// Rooms of the sidecar in the order of their dependencies: a module may only use the ones above it.
const ROOMS: &[&str] = &[
    "http",
    "error",
    "resolver",
    "overload",
    "memory",
    "telemetry",
    "intercept",
    "destination",
    "call",
    "upstream",
    "respond",
    "stack",
    "drain",
    "proxy",
    "wire",
    "connection",
    "admin",
    "settings",
    "run",
    "redirect",
    "demo",
    "cli",
    "app",
    "main",
];

/// Rooms that use one below them for now, and which. A ratchet: only ever shorten the list.
const UPWARD: &[(&str, &str)] = &[("wire", "connection")];

/// Longest function, in lines from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Files with a longer function, and how long it is. A ratchet: only ever shorten the list.
const LONGER_FUNCTIONS: &[(&str, usize)] = &[("sidecar/src/run/session.rs", 76)];

/// Longest file of the product, tests apart. A ratchet: only ever lower it.
const FILE_LINES_MAX: usize = 470;

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn sources_of(crates: &[&str]) -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    for name in crates {
        for folder in ["src", "tests", "benches"] {
            sources(&repository().join(name).join(folder), &mut paths);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(&path).expect("it is text")))
        .collect()
}

fn all() -> Vec<(PathBuf, String)> {
    sources_of(&["control-api", "sidecar", "k8s", "e2e"])
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let problems: Vec<String> = all()
        .iter()
        // A file of unit tests has its module's doc.
        .filter(|(path, text)| !text.starts_with("//!") && !path.ends_with("tests.rs"))
        .map(|(path, _)| format!("{}: no module doc (`//!`) on its first line", shown(path)))
        .collect();
    report(&problems);
}

#[test]
fn no_source_file_is_unsafe_or_left_to_do() {
    let words = ["unsafe ", "todo!", "unimplemented!", "TODO", "FIXME", "XXX"];
    let mut problems = Vec::new();
    for (path, text) in all()
        .iter()
        .filter(|(path, _)| !path.ends_with("tests/tidy.rs"))
    {
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if let Some(word) = words
                .iter()
                .find(|word| code.contains(**word))
                .filter(|_| !code.starts_with("//"))
            {
                problems.push(format!("{}:{}: {word}", shown(path), number + 1));
            }
        }
    }
    report(&problems);
}

#[test]
fn crates_depend_in_one_direction() {
    let mut problems = Vec::new();
    for (name, allowed) in CRATES {
        let manifest =
            fs::read_to_string(repository().join(name).join("Cargo.toml")).expect("a manifest");
        for (other, _) in CRATES {
            let used = manifest.lines().any(|line| {
                line.strip_prefix(other)
                    .is_some_and(|rest| rest.starts_with([' ', '.', '=']))
            });
            if used && !allowed.contains(other) {
                problems.push(format!("{name}/Cargo.toml: may not depend on {other}"));
            }
        }
    }
    report(&problems);
}

/// The room that a path of the sidecar is in.
fn room(path: &Path) -> Option<String> {
    let inner = path.strip_prefix(repository().join("sidecar/src")).ok()?;
    let first = inner.iter().next()?.to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

#[test]
fn modules_of_the_sidecar_use_only_those_above_them() {
    let order = |name: &str| ROOMS.iter().position(|room| *room == name);
    let mut problems = Vec::new();
    for (path, text) in sources_of(&["sidecar"]) {
        let Some(own) = room(&path).filter(|own| own != "lib" && own != "bin") else {
            continue;
        };
        let Some(place) = order(&own) else {
            problems.push(format!(
                "{}: the room {own} has no place in the order; add it to ROOMS",
                shown(&path)
            ));
            continue;
        };
        // Tests, in a file of their own or at the foot, may use anything.
        if path.ends_with("tests.rs") {
            continue;
        }
        let code = code(&text);
        for (number, line) in code
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for used in line.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if order(&used).is_some_and(|other| other > place)
                    && !UPWARD.contains(&(own.as_str(), used.as_str()))
                {
                    problems.push(format!(
                        "{}:{}: {own} uses {used}, which is below it",
                        shown(&path),
                        number + 1
                    ));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn functions_fit_a_screen() {
    let mut problems = Vec::new();
    // A table of cases may be long.
    for (path, text) in all()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("tests.rs"))
    {
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            let is_function = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "pub(super) fn ",
                "async fn ",
                "pub async fn ",
            ]
            .iter()
            .chain(&[
                "pub(crate) async fn ",
                "pub(super) async fn ",
                "const fn ",
                "pub const fn ",
            ])
            .any(|word| code.starts_with(word));
            if !is_function {
                continue;
            }
            // rustfmt puts the closing brace of an item below its first letter.
            let closing = format!("{}}}", " ".repeat(indent));
            let length = lines[start..]
                .iter()
                .position(|line| *line == closing)
                .unwrap_or(0)
                + 1;
            let known = LONGER_FUNCTIONS
                .iter()
                .find(|(file, _)| *file == shown(&path));
            if length > known.map_or(FUNCTION_LINES_MAX, |(_, length)| *length) {
                problems.push(format!(
                    "{}:{}: a function of {length} lines",
                    shown(&path),
                    start + 1
                ));
            }
        }
    }
    report(&problems);
}

#[test]
fn files_hold_one_concept() {
    let mut problems = Vec::new();
    for (path, text) in all() {
        let code = code(&text);
        let length = code.lines().count();
        let is_test =
            path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        if length > FILE_LINES_MAX && !is_test {
            problems.push(format!("{}: {length} lines, tests apart", shown(&path)));
        }
    }
    report(&problems);
}

#[test]
fn modules_are_files_beside_their_folders() {
    let problems: Vec<String> = sources_of(&["control-api", "sidecar", "k8s"])
        .iter()
        .filter(|(path, _)| path.ends_with("mod.rs"))
        .map(|(path, _)| format!("{}: name it after its folder, beside it", shown(path)))
        .collect();
    report(&problems);
}

/// Lines of a file's code that contain one of `words`, tests and comments apart.
fn lines_with(path: &Path, text: &str, words: &[&str]) -> Vec<String> {
    let code = code(text);
    code.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
        .map(|(number, line)| format!("{}:{}: {}", shown(path), number + 1, line.trim()))
        .collect()
}

fn is_test(path: &Path) -> bool {
    let of_tests = |part: &std::ffi::OsStr| {
        ["tests", "tests.rs", "testing", "testing.rs", "fixture.rs"]
            .iter()
            .any(|name| part == *name)
    };
    path.iter().any(of_tests)
}

/// The files below one of these folders or at one of these paths, tests apart.
fn product(places: &[&str]) -> Vec<(PathBuf, String)> {
    sources_of(&["control-api", "sidecar", "k8s"])
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .filter(|(path, _)| {
            let path = shown(path);
            places.iter().any(|place| path.starts_with(place))
        })
        .collect()
}

#[test]
fn the_pure_cores_never_read_a_clock_and_do_no_io() {
    let cores = [
        "sidecar/src/overload",
        "sidecar/src/call/",
        "sidecar/src/drain/lifecycle.rs",
        "control-api/src/bin/weirctl/fleet/plan.rs",
        "control-api/src/bin/weirctl/fleet/target.rs",
        "control-api/src/bin/weirctl/fleet/traffic.rs",
        "control-api/src/bin/weirctl/fleet/verdict.rs",
        "control-api/src/bin/weirctl/fleet/words.rs",
        "control-api/src/policy",
        "control-api/src/document",
        "k8s/src/inject",
        "k8s/src/options.rs",
        "k8s/src/pod.rs",
        "k8s/src/reason.rs",
        "k8s/src/review.rs",
        "k8s/src/settings.rs",
        "k8s/src/values.rs",
        "k8s/src/workload.rs",
    ];
    let words = [
        "Instant::now",
        "SystemTime::now",
        "Timestamp::now",
        ".elapsed()",
        "std::fs",
        "std::env",
        "tokio::net",
        "tokio::spawn",
        ".await",
    ];
    let problems: Vec<String> = product(&cores)
        .iter()
        .filter(|(path, _)| !path.ends_with("simulation.rs"))
        .flat_map(|(path, text)| lines_with(path, text, &words))
        .collect();
    report(&problems);
}

/// Fails if a package, with these arguments to `cargo tree`, depends on one of `crates`.
fn does_not_depend(arguments: &[&str], crates: &[&str]) {
    let mut tree = std::process::Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .current_dir(repository());
    let done = e2e::process::run(&mut tree, e2e::wait::LONG);
    assert!(done.status.success(), "{done:?}");
    let used: Vec<String> = done
        .stdout
        .lines()
        .filter(|line| crates.contains(&line.split(' ').next().unwrap_or_default()))
        .map(|line| format!("{arguments:?} depends on {line}"))
        .collect();
    report(&used);
}

#[test]
fn the_model_needs_no_runtime() {
    let runtime = ["tokio", "hyper", "axum", "tower", "nix", "socket2", "mio"];
    does_not_depend(
        &["--package", "control-api", "--no-default-features"],
        &runtime,
    );
}

#[test]
fn nothing_in_an_applications_pod_knows_of_clusters() {
    let cluster = ["kube", "kube-client", "k8s-openapi"];
    does_not_depend(&["--package", "sidecar"], &cluster);
    let weirctl = ["--no-default-features", "--features", "server,client"];
    does_not_depend(
        &[&["--package", "control-api"], &weirctl[..]].concat(),
        &cluster,
    );
}

#[test]
fn only_the_wiring_makes_what_there_is_one_of() {
    let words = [
        "Store::open(",
        "Destinations::new(",
        "Telemetry::new(",
        "Connections::new(",
        "Server::bind(",
        "Upstream::new(",
    ];
    let problems: Vec<String> = product(&["sidecar/src"])
        .iter()
        .filter(|(path, _)| room(path).is_some_and(|room| room != "app"))
        .flat_map(|(path, text)| {
            // A test fixture stands beside what it makes.
            let code = code(text);
            lines_with(path, code, &words)
        })
        .collect();
    report(&problems);
}

/// Where tasks and threads are started: the wiring, the listeners, the protocols' drivers, the commands.
const SPAWNERS: &[&str] = &[
    "control-api/src/client/transport.rs",
    "control-api/src/server/connection.rs",
    "control-api/src/server/policy.rs",
    "control-api/src/store/file_watch.rs",
    "k8s/src/webhook/listener.rs",
    "sidecar/src/admin/server.rs",
    "sidecar/src/app.rs",
    "sidecar/src/app/side.rs",
    "sidecar/src/demo.rs",
    "sidecar/src/demo/client.rs",
    "sidecar/src/demo/server.rs",
    "sidecar/src/intercept/dns.rs",
    "sidecar/src/intercept/inside.rs",
    "sidecar/src/intercept/listener.rs",
    "sidecar/src/intercept/publish.rs",
    "sidecar/src/run/",
    "sidecar/src/telemetry/log/writer.rs",
    "sidecar/src/upstream/http1/",
    "sidecar/src/upstream/http2/",
    "sidecar/src/wire/explicit/names.rs",
    "sidecar/src/wire/http2.rs",
];

#[test]
fn tasks_are_started_only_where_they_have_an_owner() {
    let words = [
        "tokio::spawn(",
        ".spawn(",
        "spawn_blocking(",
        "thread::spawn(",
    ];
    let problems: Vec<String> = product(&["control-api/src", "sidecar/src", "k8s/src"])
        .iter()
        .filter(|(path, _)| {
            let path = shown(path);
            !SPAWNERS.iter().any(|place| path.starts_with(place)) && !path.contains("under_loom")
        })
        .flat_map(|(path, text)| {
            let code = code(text);
            lines_with(path, code, &words)
        })
        .collect();
    report(&problems);
}

/// Where a task may be started without a set that ends it: programs of a few seconds, and one that is ended by hand.
const WITHOUT_A_SET: &[&str] = &[
    "control-api/src/client/transport.rs",
    "sidecar/src/app.rs",
    "sidecar/src/demo/",
];

#[test]
fn tasks_end_with_the_set_that_owns_them() {
    let problems: Vec<String> = product(&["control-api/src", "sidecar/src"])
        .iter()
        .filter(|(path, _)| {
            let path = shown(path);
            !WITHOUT_A_SET.iter().any(|place| path.starts_with(place))
        })
        .flat_map(|(path, text)| {
            let code = code(text);
            lines_with(path, code, &["tokio::spawn("])
        })
        .collect();
    report(&problems);
}

#[test]
fn the_code_map_has_every_room_in_its_order() {
    let map = fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("it is there");
    let (_, map) = map.split_once("## Code map").expect("there is a code map");
    let map = map.split("\n## ").next().unwrap_or_default();
    let named: Vec<&str> = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|cell| cell.split(['`', ',', ' ']))
        .map(|name| name.trim_end_matches('/'))
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(named, ROOMS);
}

/// A file's code: what stands before its tests, or what tests use, at the foot. A `mod tests;` in the list of modules ends
/// nothing.
fn code(text: &str) -> &str {
    let mut marks = text.match_indices("#[cfg(test)]\n");
    let foot = marks.find(|(at, mark)| {
        let next = text[at + mark.len()..].lines().next().unwrap_or_default();
        next.contains("mod ") && next.ends_with('{')
    });
    foot.map_or(text, |(at, _)| &text[..at])
}
