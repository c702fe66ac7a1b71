//! `weirctl` against a running server.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

use expect_test::expect;
use serde_json::Value;

use crate::support::Running;

/// Runs weirctl with these words, `{}` in them being the server's directory.
async fn weirctl(server: &Running, words: &str) -> Output {
    let dir = server.dir.path().to_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
    command.arg("--socket").arg(&server.socket);
    command.args(words.split(' ').map(|word| word.replace("{}", dir)));
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

async fn good(server: &Running, words: &str) -> String {
    let output = weirctl(server, words).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), error.as_str()),
        (Some(0), ""),
        "{words}"
    );
    String::from_utf8(output.stdout).unwrap()
}

async fn refused(server: &Running, words: &str) -> String {
    let output = weirctl(server, words).await;
    assert_eq!(output.status.code(), Some(1), "{words}: {output:?}");
    assert_eq!(output.stdout, b"", "{words}");
    String::from_utf8(output.stderr).unwrap()
}

fn with_file(name: &str, text: &str) -> Running {
    let server = Running::start();
    fs::write(server.dir.path().join(name), text).unwrap();
    server
}

#[tokio::test]
async fn it_waits_for_a_proxy_and_gives_up_in_the_end() {
    let server = Running::start();
    assert_eq!(good(&server, "wait").await, "");
    fs::remove_file(&server.socket).unwrap();
    let missing = refused(&server, "wait --timeout 0").await;
    assert!(missing.contains("is weir running there"), "{missing}");
}

#[tokio::test]
async fn a_policy_is_tried_applied_read_and_rolled_back() {
    let server = with_file(
        "p.yaml",
        "version: weir/v1\ndefaults: {deadline: 1s, retry: {methods: all}}\n",
    );
    expect![[r#"
        + /defaults: {"deadline":"1s","retry":{"methods":"all"}}
        warning: /defaults/retry/methods: all: a call that is not idempotent may be processed more than once
        revision 1 stays: only tried
    "#]]
    .assert_eq(&good(&server, "diff {}/p.yaml").await);
    let tried = good(&server, "apply --dry-run {}/p.yaml").await;
    assert!(tried.ends_with("revision 1 stays: only tried\n"), "{tried}");
    let applied = good(&server, "apply {}/p.yaml").await;
    assert!(applied.ends_with("revision 2 is in force\n"), "{applied}");
    expect![[r"
        version: weir/v1
        defaults:
          deadline: 1s
          retry:
            methods: all
    "]]
    .assert_eq(&good(&server, "get").await);
    let again = good(&server, "apply {}/p.yaml --if-match 2").await;
    assert!(again.ends_with("revision 2: nothing changes\n"), "{again}");
    let rolled_back = good(&server, "rollback 1").await;
    assert!(
        rolled_back.ends_with("revision 3 is in force\n"),
        "{rolled_back}"
    );
    let history = good(&server, "history").await;
    let rows: Vec<&str> = history.lines().collect();
    assert_eq!(rows.len(), 4, "{history}");
    assert!(
        rows[1].starts_with("3 ") && rows[1].ends_with("in force, rollback to 1"),
        "{history}"
    );
    let old: Value =
        serde_json::from_str(&good(&server, "get --revision 2 -o json").await).unwrap();
    assert_eq!(old["defaults"]["deadline"], "1s");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_every_place() {
    let server = with_file(
        "p.yaml",
        "version: weir/v1\ndefaults: {mode: loud, deadline: 5}\n",
    );
    expect![[r#"
        weirctl: The policy has mistakes: 2 mistakes; the policy before stays in force
          /defaults/mode: "loud" is none of enforce, observe, off
          /defaults/deadline: 5 is not a length of time; write a whole number with its unit, such as 250ms or 10s
    "#]]
    .assert_eq(&refused(&server, "apply {}/p.yaml").await);
    let offline = refused(&server, "check {}/p.yaml").await;
    assert!(
        offline.contains("/defaults/mode: \"loud\" is none of"),
        "{offline}"
    );
    fs::write(server.dir.path().join("p.yaml"), "version: [").unwrap();
    let broken = refused(&server, "apply {}/p.yaml").await;
    assert!(
        broken.contains("not valid YAML") && broken.contains("line"),
        "{broken}"
    );
    let stale = with_file("p.yaml", "version: weir/v1\ndefaults: {mode: off}");
    // Scripts tell a lost race from a mistake.
    for words in ["apply {}/p.yaml --if-match 9", "rollback 1 --if-match 9"] {
        let stale = weirctl(&stale, words).await;
        assert_eq!(stale.status.code(), Some(3), "{words}: {stale:?}");
        let said = String::from_utf8(stale.stderr).unwrap();
        assert!(said.contains("revision 1 is in force"), "{said}");
    }
    assert!(
        refused(&server, "apply {}/absent.yaml")
            .await
            .contains("absent.yaml")
    );
    assert_eq!(weirctl(&server, "applie").await.status.code(), Some(2));
    assert_eq!(
        weirctl(&server, "rollback first").await.status.code(),
        Some(2)
    );
}

#[tokio::test]
async fn without_a_running_weir_it_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("absent.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
    command.arg("status").env("WEIR_CONTROL_SOCKET", &socket);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("absent.sock") && error.contains("is weir running there"),
        "{error}"
    );
}

#[tokio::test]
async fn reads_are_for_people_and_for_machines() {
    let server = Running::start();
    let status = good(&server, "status").await;
    assert!(status.starts_with("weir 9.9.9, pid "), "{status}");
    assert!(
        status.contains("policy     revision 1 from built-in "),
        "{status}"
    );
    let destinations = good(&server, "destinations").await;
    assert!(
        destinations.contains("payments:80  shedding  8/8"),
        "{destinations}"
    );
    assert!(
        !destinations.contains('\u{1b}'),
        "a name may not command the terminal"
    );
    assert!(good(&server, "connections").await.contains("10.0.0.7:80"));
    let decisions = good(&server, "decisions --limit 2 --destination even:80").await;
    assert_eq!(decisions.lines().count(), 3, "{decisions}");
    for words in [
        "status",
        "destinations",
        "connections",
        "decisions",
        "history",
        "get",
    ] {
        let text = good(&server, &format!("{words} -o json")).await;
        serde_json::from_str::<Value>(&text).unwrap();
        let text = good(&server, &format!("{words} -o yaml")).await;
        serde_yaml_ng::from_str::<Value>(&text).unwrap();
    }
    assert_eq!(good(&server, "log-level trace").await, "log level trace\n");
}

#[tokio::test]
async fn a_call_is_explained_by_its_route() {
    let server = with_file(
        "p.yaml",
        "{version: weir/v1, routes: [{name: pay, match: {authority: pay, path: {prefix: /v1}}, admission: {limit: 8}}]}",
    );
    let explained = good(&server, "explain GET http://PAY/v1/x --file {}/p.yaml").await;
    assert!(explained.starts_with("route pay, admission, budget and breaker of its own (pay)\n"));
    assert!(explained.contains("limit: 8"), "{explained}");
    let other = good(&server, "explain -o json GET http://other:81/").await;
    let other: Value = serde_json::from_str(&other).unwrap();
    assert_eq!(
        (&other["route"], &other["revision"]),
        (&"defaults".into(), &1.into())
    );
    assert!(
        refused(&server, "explain GET /v1/x")
            .await
            .contains("no host")
    );
}

#[tokio::test]
async fn a_policy_is_taken_from_standard_input() {
    let server = Running::start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
    command
        .arg("--socket")
        .arg(&server.socket)
        .args(["apply", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let applied = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(b"version: weir/v1\ndefaults: {mode: off}\n")
            .unwrap();
        drop(stdin);
        child.wait().unwrap()
    });
    assert!(applied.await.unwrap().success());
    assert_eq!(server.store.current().revision, 2);
}

#[tokio::test]
async fn watching_prints_revisions_as_they_come() {
    let server = with_file("p.yaml", "version: weir/v1\ndefaults: {mode: off}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
    command
        .arg("--socket")
        .arg(&server.socket)
        .args(["watch", "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let next = tokio::task::spawn_blocking(move || (lines.next().unwrap().unwrap(), lines));
    let (first, mut lines) = next.await.unwrap();
    assert!(first.starts_with("{\"revision\":1,"), "{first}");
    good(&server, "apply {}/p.yaml").await;
    let next = tokio::task::spawn_blocking(move || lines.next().unwrap().unwrap());
    let second = next.await.unwrap();
    assert!(second.starts_with("{\"revision\":2,"), "{second}");
    child.kill().unwrap();
    child.wait().unwrap();
}
