//! One pod, as if one were in it.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use crate::api_server::Running;
use crate::pod::policy;
use crate::weirctl::{LONG, Said, command, run};

#[tokio::test]
async fn commands_run_in_the_pod_and_answer_as_there() {
    let running = Running::start(&["a"]).await;
    running.file("p.yaml", &policy(8));
    let said = run(&running, "--pod shop/a apply {}/p.yaml").await;
    assert!(
        said.code == 0 && said.out.ends_with("revision 2 is in force\n"),
        "{said:?}"
    );
    let said = run(&running, "--pod a diff {}/p.yaml").await;
    assert!(
        said.out.ends_with("revision 2: nothing changes\n"),
        "{said:?}"
    );
    let said = run(&running, "--pod a status -o json").await;
    let status: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(status["policy"]["revision"], 2);
    for words in [
        "get",
        "history",
        "destinations",
        "decisions",
        "connections",
        "wait",
    ] {
        let said = run(&running, &format!("--pod a {words}")).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{words}");
    }
    let said = run(&running, "--pod a rollback 1").await;
    assert!(said.out.ends_with("revision 3 is in force\n"), "{said:?}");
    // Exit codes are those of the pod.
    let said = run(&running, "--pod a rollback 2 --if-match 1").await;
    assert!(
        said.code == 3 && said.err.contains("revision 3 is in force"),
        "{said:?}"
    );
    let said = run(&running, "--pod a get --revision 99").await;
    assert_eq!(said.code, 1, "{said:?}");
}

#[tokio::test]
async fn a_policy_comes_from_standard_input_as_well() {
    let running = Running::start(&["a"]).await;
    let mut child = command(&running, "--pod a apply -")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Larger than any buffer on the way.
    let policy = format!("{}{}", policy(8), "# and more\n".repeat(20_000));
    stdin.write_all(policy.as_bytes()).await.unwrap();
    drop(stdin);
    let said = timeout(LONG, child.wait_with_output()).await;
    let said = Said::of(said.unwrap().unwrap());
    assert_eq!(
        (said.code, running.cluster.pod("a").runs()),
        (0, (8, 2)),
        "{said:?}"
    );
}

#[tokio::test]
async fn pods_that_cannot_be_asked_say_why() {
    let running = Running::start(&["a"]).await;
    let said = run(&running, "--pod b status").await;
    assert!(
        said.code == 1 && said.err.contains("no pod b in namespace shop"),
        "{said:?}"
    );
    running
        .cluster
        .change("a", |pod| pod["spec"]["initContainers"] = Value::Null);
    let said = run(&running, "--pod a status").await;
    assert!(
        said.code == 1
            && said
                .err
                .contains("kubectl label namespace shop weir.dev/inject=enabled"),
        "{said:?}"
    );
    let said = run(&running, "--pod a check p.yaml").await;
    assert!(
        said.code == 1 && said.err.contains("leave out --pod"),
        "{said:?}"
    );
}

#[tokio::test]
async fn watching_goes_on_until_its_end_and_leaves_nothing_in_the_pod() {
    let running = Running::start(&["a"]).await;
    let mut ended = running.cluster.ended.subscribe();
    let mut child = command(&running, "--pod a watch -o json").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = timeout(LONG, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(first.starts_with("{\"revision\":1,"), "{first}");
    running.cluster.pod("a").write(8);
    let second = timeout(LONG, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(second.starts_with("{\"revision\":2,"), "{second}");
    assert_eq!(*ended.borrow(), 0);
    // Not even a word of farewell.
    child.kill().await.unwrap();
    timeout(LONG, ended.wait_for(|ended| *ended == 1))
        .await
        .unwrap()
        .unwrap();
}
