//! The policy can be read, tried out and changed while calls go on, and a bad one changes nothing.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use e2e::h2c::{self, Client};
use e2e::http1::Connection;
use e2e::origin::Origin;
use e2e::weir::Weir;
use e2e::{binaries, process, wait};
use serde_json::{Value, json};

/// A policy that gives calls so much time in all.
fn deadline(length: &str) -> Value {
    json!({"version": "weir/v1", "defaults": {"deadline": length}})
}

fn etag(weir: &Weir) -> String {
    weir.api("GET", "/v1/policy", &[], "")
        .header("etag")
        .expect("a policy has an ETag")
        .to_owned()
}

fn slow(connection: &mut Connection) -> u16 {
    connection
        .get("a", "/delay/300")
        .expect("the connection lives")
        .status()
}

#[test]
fn a_change_applies_to_the_next_call_of_an_open_connection() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let mut connection = weir.http(origin.addr());
    assert_eq!(slow(&mut connection), 200);
    assert_eq!(weir.put_policy(&deadline("50ms")).status(), 200);
    assert_eq!(slow(&mut connection), 504);
    assert_eq!(weir.put_policy(&deadline("5s")).status(), 200);
    assert_eq!(slow(&mut connection), 200);
}

/// The revisions of all open connections to `destination`.
fn revisions(weir: &Weir, destination: std::net::SocketAddr) -> Vec<u64> {
    let open = weir.read("/v1/connections");
    let items = open["items"].as_array().expect("items").iter();
    items
        .filter(|item| item["destination"] == destination.to_string())
        .map(|item| item["revision"].as_u64().expect("a number"))
        .collect()
}

#[test]
fn a_connection_without_calls_keeps_the_revision_that_it_was_accepted_under() {
    let http = Origin::start(&[]);
    let greeter = Origin::start(&["--banner", "220 at work"]);
    let weir = Weir::run();
    let mut calls = weir.http(http.addr());
    assert_eq!(slow(&mut calls), 200);
    let mut opaque = weir.connect(greeter.addr());
    let mut greeting = [0; 13];
    opaque.read_exact(&mut greeting).expect("a greeting");
    let before = revisions(&weir, http.addr());
    assert_eq!(revisions(&weir, greeter.addr()), before);
    assert_eq!(weir.put_policy(&deadline("5s")).status(), 200);
    assert_eq!(revisions(&weir, greeter.addr()), before);
    assert_eq!(revisions(&weir, http.addr()), [before[0] + 1]);
    // It lives, too.
    assert_eq!(slow(&mut calls), 200);
    opaque.write_all(b"QUIT\r\n").expect("the connection lives");
}

#[test]
fn where_a_policy_says_no_mode_that_of_the_environment_holds() {
    let origin = Origin::start(&[]);
    let weir = Weir::builder().env("WEIR_MODE", "observe").run();
    let mut connection = weir.http(origin.addr());
    assert_eq!(weir.put_policy(&deadline("50ms")).status(), 200);
    assert_eq!(slow(&mut connection), 200);
    let mut stated = deadline("50ms");
    stated["defaults"]["mode"] = "enforce".into();
    assert_eq!(weir.put_policy(&stated).status(), 200);
    assert_eq!(slow(&mut connection), 504);
}

#[tokio::test]
async fn a_change_applies_to_the_next_call_of_an_open_http2_connection() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let client = Client::open(weir.connect(origin.addr()))
        .await
        .expect("weir speaks HTTP/2");
    let mut statuses = Vec::new();
    for length in ["5s", "50ms", "5s"] {
        assert_eq!(weir.put_policy(&deadline(length)).status(), 200);
        let reply = client
            .call(h2c::get(origin.addr(), "/delay/300"), "")
            .await
            .expect("the connection lives");
        statuses.push(reply.status());
    }
    assert_eq!(statuses, [200, 504, 200]);
}

#[test]
fn a_change_breaks_no_call_that_is_under_way() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    let mut connection = weir.http(origin.addr());
    connection
        .send("GET /delay/500 HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("weir reads");
    wait::until_true("the call to be in flight", wait::LONG, || {
        origin.calls() == 1
    });
    assert_eq!(weir.put_policy(&deadline("10ms")).status(), 200);
    assert_eq!(connection.response(false).expect("an answer").status(), 200);
}

#[test]
fn a_bad_policy_is_refused_with_every_reason_and_the_old_one_stays() {
    let weir = Weir::run();
    assert_eq!(weir.put_policy(&deadline("7s")).status(), 200);
    let before = etag(&weir);
    let bad = json!({
        "version": "weir/v1",
        "defaults": {"retry": {"attempts": 0}, "admission": {"limit": -3}},
        "routes": [{"name": "a", "nonsense": true}],
    });
    let answer = weir.put_policy(&bad);
    assert!([400, 422].contains(&answer.status()), "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let text = answer.text();
    for pointer in [
        "/defaults/retry/attempts",
        "/defaults/admission/limit",
        "/routes/0/nonsense",
    ] {
        assert!(text.contains(pointer), "{pointer} is missing in {text}");
    }
    assert_eq!(etag(&weir), before);
    assert_eq!(weir.read("/v1/policy")["defaults"]["deadline"], "7s");
}

#[test]
fn a_write_must_say_what_it_replaces() {
    let weir = Weir::run();
    let body = deadline("1s").to_string();
    let json = ("content-type", "application/json");
    assert_eq!(weir.api("PUT", "/v1/policy", &[json], &body).status(), 428);
    let stale = etag(&weir);
    assert_eq!(weir.put_policy(&deadline("2s")).status(), 200);
    assert_eq!(
        weir.api("PUT", "/v1/policy", &[json, ("if-match", &stale)], &body)
            .status(),
        412
    );
    assert_eq!(weir.read("/v1/policy")["defaults"]["deadline"], "2s");
}

#[test]
fn a_dry_run_shows_the_difference_and_changes_nothing() {
    let weir = Weir::run();
    let before = etag(&weir);
    let headers = [
        ("if-match", before.as_str()),
        ("content-type", "application/json"),
    ];
    let answer = weir.api(
        "PUT",
        "/v1/policy?dryRun=true",
        &headers,
        &deadline("1s").to_string(),
    );
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(
        answer.text().contains("/defaults") && answer.text().contains("1s"),
        "{}",
        answer.text()
    );
    assert_eq!(etag(&weir), before);
}

#[test]
fn a_patch_changes_only_what_it_names() {
    let weir = Weir::run();
    weir.put_policy(
        &json!({"version": "weir/v1", "defaults": {"deadline": "1s", "retry": {"attempts": 2}}}),
    );
    let tag = etag(&weir);
    let headers = [
        ("if-match", tag.as_str()),
        ("content-type", "application/merge-patch+json"),
    ];
    let answer = weir.api(
        "PATCH",
        "/v1/policy",
        &headers,
        r#"{"defaults": {"deadline": "3s"}}"#,
    );
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let policy = weir.read("/v1/policy");
    assert_eq!(policy["defaults"]["deadline"], "3s");
    assert_eq!(policy["defaults"]["retry"]["attempts"], 2);
}

fn deadline_in_force(weir: &Weir) -> Value {
    weir.read("/v1/policy")["defaults"]["deadline"].clone()
}

fn write(path: &Path, length: &str) {
    std::fs::write(
        path,
        format!("version: weir/v1\ndefaults: {{deadline: {length}}}\n"),
    )
    .expect("ours");
}

#[test]
fn the_last_write_wins_whatever_its_source() {
    let weir = Weir::run_with("version: weir/v1\ndefaults: {deadline: 1s}\n");
    assert_eq!(deadline_in_force(&weir), "1s");
    assert_eq!(weir.put_policy(&deadline("2s")).status(), 200);
    assert_eq!(deadline_in_force(&weir), "2s");
    write(&weir.policy_file(), "3s");
    wait::until_true("the file to be read", wait::LONG, || {
        deadline_in_force(&weir) == "3s"
    });
    assert_eq!(weir.put_policy(&deadline("4s")).status(), 200);
    assert_eq!(deadline_in_force(&weir), "4s");
}

#[test]
fn a_bad_file_changes_nothing_and_is_counted() {
    let weir = Weir::run_with("version: weir/v1\ndefaults: {deadline: 1s}\n");
    std::fs::write(
        weir.policy_file(),
        "version: weir/v1\ndefaults: {deadline: never}\n",
    )
    .expect("ours");
    wait::until_true("the rejection", wait::LONG, || {
        weir.metric("weir_policy_updates_total", &["result=\"rejected\""]) >= 1.0
    });
    assert_eq!(deadline_in_force(&weir), "1s");
    write(&weir.policy_file(), "2s");
    wait::until_true("the good file", wait::LONG, || {
        deadline_in_force(&weir) == "2s"
    });
}

#[test]
fn a_mounted_config_map_is_followed_when_its_link_is_swapped() {
    let mount = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| mount.path().join(name);
    for (version, length) in [("..one", "1s"), ("..two", "2s"), ("..three", "3s")] {
        std::fs::create_dir(at(version)).expect("ours");
        write(&at(version).join("policy.yaml"), length);
    }
    std::os::unix::fs::symlink("..one", at("..data")).expect("ours");
    std::os::unix::fs::symlink("..data/policy.yaml", at("policy.yaml")).expect("ours");
    let weir = Weir::builder()
        .arg("--policy")
        .arg(at("policy.yaml").to_str().expect("text"))
        .run();
    assert_eq!(deadline_in_force(&weir), "1s");
    for (version, length) in [("..two", "2s"), ("..three", "3s")] {
        // As the kubelet does it: a new link beside the old one, then a rename over it.
        std::os::unix::fs::symlink(version, at("..data_tmp")).expect("ours");
        std::fs::rename(at("..data_tmp"), at("..data")).expect("ours");
        wait::until_true("the new version", wait::LONG, || {
            deadline_in_force(&weir) == length
        });
    }
}

fn weirctl(weir: &Weir, words: &[&str]) -> process::Finished {
    let mut command = Command::new(binaries::weirctl());
    command
        .env("WEIR_CONTROL_SOCKET", weir.control())
        .args(words);
    process::run(&mut command, wait::LONG)
}

#[test]
fn weirctl_reads_and_changes_a_running_weir() {
    let origin = Origin::start(&[]);
    let weir = Weir::run();
    weir.http(origin.addr()).get("a", "/").expect("an answer");
    let status = weirctl(&weir, &["status"]);
    assert!(status.status.success(), "{status:?}");
    let file = weir.folder().join("new.yaml");
    write(&file, "6s");
    let applied = weirctl(&weir, &["apply", file.to_str().expect("text")]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(deadline_in_force(&weir), "6s");
    let got = weirctl(&weir, &["get"]);
    assert!(got.status.success() && got.stdout.contains("6s"), "{got:?}");
    let destinations = weirctl(&weir, &["destinations"]);
    assert!(
        destinations
            .stdout
            .contains(&origin.addr().port().to_string()),
        "{destinations:?}"
    );
    assert!(weirctl(&weir, &["decisions"]).status.success());
    std::fs::write(&file, "version: weir/v1\ndefaults: {deadline: never}\n").expect("ours");
    let refused = weirctl(&weir, &["apply", file.to_str().expect("text")]);
    assert!(!refused.status.success());
    assert!(
        format!("{refused:?}").contains("/defaults/deadline"),
        "{refused:?}"
    );
}

#[test]
fn weirctl_finds_the_weir_of_its_user() {
    let runtime = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(binaries::weir());
    // The command is told the socket by its environment; whoever stands beside it is not.
    command
        .env("XDG_RUNTIME_DIR", runtime.path())
        .args(["run", "--", "env", "-u", "WEIR_CONTROL_SOCKET"])
        .arg(binaries::weirctl())
        .arg("status");
    let done = process::run(&mut command, wait::LONG);
    assert!(done.status.success(), "{done:?}");
    assert!(done.stdout.contains("revision 1"), "{done:?}");
}

#[test]
fn weirctl_without_a_weir_says_where_it_looked() {
    let mut command = Command::new(binaries::weirctl());
    command
        .env("WEIR_CONTROL_SOCKET", "/nowhere/control.sock")
        .arg("status");
    let done = process::run(&mut command, wait::LONG);
    assert!(!done.status.success());
    assert!(done.stderr.contains("/nowhere/control.sock"), "{done:?}");
}

#[test]
#[ignore = "needs root, to become somebody else: .ci/run e2e"]
fn a_foreign_user_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    assert!(
        nix::unistd::geteuid().is_root(),
        "only root can become somebody else"
    );
    let weir = Weir::run();
    let open = std::fs::Permissions::from_mode(0o777);
    // As if the socket's own mode did not keep them out: the peer's credentials still do.
    std::fs::set_permissions(weir.folder(), open.clone()).expect("ours");
    std::fs::set_permissions(weir.control(), open).expect("ours");
    let tool = weir.folder().join("weirctl");
    std::fs::copy(binaries::weirctl(), &tool).expect("ours");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(tool)
        .arg("status");
    let done = process::run(
        command.env("WEIR_CONTROL_SOCKET", weir.control()),
        wait::LONG,
    );
    assert!(!done.status.success(), "{done:?}");
    assert!(weirctl(&weir, &["status"]).status.success(), "root may");
}
