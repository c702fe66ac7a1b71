//! A push that is told to end.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::watch;

use crate::api_server::{After, Running};
use crate::pod::policy;
use crate::weirctl::{LONG, Said, command};

#[tokio::test]
async fn interrupted_it_says_what_was_pushed_and_what_not() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let running = Running::start(&["a", "b", "c"]).await;
        running.file("p.yaml", &policy(8));
        let (hanging, hangs) = watch::channel(false);
        running.cluster.before_exec(move |pod, words| {
            if pod == "b" && words[0] == "apply" {
                hanging.send_replace(true);
                return After::Hangs;
            }
            After::Runs
        });
        let words = "push -l app=checkout {}/p.yaml --max-unavailable 1 --watch 0s -o json";
        let child = command(&running, words).spawn().unwrap();
        let said = interrupted(child, signal, hangs).await;
        let expected = ["a 1 2 applied", "b 1 1 unknown", "c 1 1 not-reached"];
        assert_eq!(said.results(), expected);
    }
}

#[tokio::test]
async fn interrupted_while_it_saves_it_says_that_nobody_knows_what_is_saved() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let running = Running::start(&["a"]).await;
        running.file("p.yaml", &policy(8));
        let (saving, saves) = watch::channel(false);
        *running.cluster.stuck.lock().unwrap() = Some(saving);
        let words = "push -l app=checkout {}/p.yaml --save --watch 0s -o json";
        let child = command(&running, words).spawn().unwrap();
        let said = interrupted(child, signal, saves).await;
        assert_eq!(said.results(), ["a 1 2 applied"]);
        assert!(said.err.contains("whether the ConfigMap has"), "{said:?}");
    }
}

/// What it says when it gets the signal as soon as it is at the place where it stays.
async fn interrupted(child: Child, signal: Signal, mut is_there: watch::Receiver<bool>) -> Said {
    let there = tokio::time::timeout(LONG, is_there.wait_for(|there| *there)).await;
    there.unwrap().unwrap();
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    kill(pid, signal).unwrap();
    let said = tokio::time::timeout(LONG, child.wait_with_output()).await;
    let said = Said::of(said.unwrap().unwrap());
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("interrupted"), "{said:?}");
    said
}
