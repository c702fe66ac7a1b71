//! A command as the words of the command line that is run in the pod.

use std::path::PathBuf;

use control_api::client::IfMatch;

use crate::arguments::{Command, DecisionsArguments, Format};

/// What is run in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) words: Vec<String>,
    pub(super) input: Input,
}

/// What it reads from standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    /// This file, whose length is the last word that is missing.
    File(PathBuf),
    /// Nothing, but it is there for as long as we are.
    Presence,
}

/// The command line; why there is none, for commands that no pod can do.
pub(super) fn words(command: &Command, output: Option<Format>) -> Result<Words, &'static str> {
    let (mut words, input) = command_words(command)?;
    if let Some(format) = output {
        words.extend(["-o", format.word()].map(str::to_owned));
    }
    if let Input::File(_) = input {
        words.push("--length".to_owned());
    }
    Ok(Words { words, input })
}

fn command_words(command: &Command) -> Result<(Vec<String>, Input), &'static str> {
    let mut input = Input::Nothing;
    let line = match command {
        Command::Status => Line::of("status"),
        Command::History => Line::of("history"),
        Command::Destinations => Line::of("destinations"),
        Command::Connections => Line::of("connections"),
        Command::Wait { timeout } => Line::of("wait").option("--timeout", Some(timeout)),
        Command::Get { revision } => Line::of("get").option("--revision", revision.as_ref()),
        Command::Apply {
            file,
            dry_run,
            if_match,
            length: _,
        } => {
            input = Input::File(file.clone());
            let if_match = if_match.map(tag);
            Line::of("apply")
                .word("-")
                .flag("--dry-run", *dry_run)
                .option("--if-match", if_match)
        }
        Command::Diff { file, length: _ } => {
            input = Input::File(file.clone());
            Line::of("diff").word("-")
        }
        Command::Rollback {
            revision,
            if_match,
            dry_run,
        } => Line::of("rollback")
            .flag("--dry-run", *dry_run)
            .option("--if-match", if_match.map(tag))
            .word(&revision.to_string()),
        Command::Watch {
            since,
            until_eof: _,
        } => {
            input = Input::Presence;
            Line::of("watch")
                .flag("--until-eof", true)
                .option("--since", since.as_ref())
        }
        Command::Decisions(wanted) => {
            if wanted.follow {
                input = Input::Presence;
            }
            decisions(wanted)
        }
        Command::LogLevel { level } => Line::of("log-level").word("--").word(level),
        Command::Explain {
            method,
            url,
            file: None,
        } => Line::of("explain")
            .word(method.as_str())
            .word(&url.to_string()),
        Command::Explain { file: Some(_), .. } => {
            return Err("--file is asked here, not in the pod; leave out one of --file and --pod");
        }
        Command::Check { .. } => {
            return Err("a policy is checked here, not in a pod; leave out --pod");
        }
        Command::Push(_) => return Err("push finds its pods by its selector; leave out --pod"),
    };
    Ok((line.0, input))
}

fn decisions(wanted: &DecisionsArguments) -> Line {
    Line::of("decisions")
        .option("--trace", wanted.trace.as_ref())
        .option("--destination", wanted.destination.as_ref())
        .option("--limit", Some(wanted.limit))
        .flag("--follow", wanted.follow)
        .flag("--until-eof", wanted.follow)
}

/// A command line that grows.
#[derive(Debug)]
struct Line(Vec<String>);

impl Line {
    fn of(command: &str) -> Self {
        Self(vec![command.to_owned()])
    }

    fn word(mut self, word: &str) -> Self {
        self.0.push(word.to_owned());
        self
    }

    /// As one word, so that no value is taken for an option.
    fn option(mut self, name: &str, value: Option<impl ToString>) -> Self {
        let value = value.map(|value| format!("{name}={}", value.to_string()));
        self.0.extend(value);
        self
    }

    fn flag(mut self, name: &str, is_set: bool) -> Self {
        self.0.extend(is_set.then(|| name.to_owned()));
        self
    }
}

fn tag(if_match: IfMatch) -> String {
    match if_match {
        IfMatch::Any => "*".to_owned(),
        IfMatch::Revision(revision) => revision.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::Arguments;

    /// What is run in the pod for what was typed here.
    fn remote(typed: &str) -> Result<String, &'static str> {
        let arguments = Arguments::try_parse_from(typed.split(' ')).unwrap();
        let Words { mut words, input } = words(&arguments.command, arguments.output)?;
        if let Input::File(_) = input {
            words.push("5".to_owned());
        }
        // Whatever is run has to be understood there.
        let there = std::iter::once("weirctl".to_owned()).chain(words.iter().cloned());
        Arguments::try_parse_from(there).unwrap();
        Ok(words.join(" "))
    }

    #[test]
    fn commands_are_run_in_the_pod_as_they_were_typed() {
        let cases = [
            ("status", "status"),
            ("status -o json", "status -o json"),
            ("wait", "wait --timeout=60"),
            ("get --revision 3 -o yaml", "get --revision=3 -o yaml"),
            ("history", "history"),
            (
                "rollback 4 --dry-run --if-match 7",
                "rollback --dry-run --if-match=7 4",
            ),
            (
                "decisions --trace -x --limit 2",
                "decisions --trace=-x --limit=2",
            ),
            ("destinations", "destinations"),
            ("connections", "connections"),
            ("log-level info,a=debug", "log-level -- info,a=debug"),
            ("explain GET http://a/b", "explain GET http://a/b"),
        ];
        for (typed, run) in cases {
            let typed = format!("weirctl {typed}").replace("--trace -x", "--trace=-x");
            assert_eq!(remote(&typed).as_deref(), Ok(run));
        }
    }

    #[test]
    fn a_file_is_read_here_and_its_length_is_told() {
        let apply = "weirctl --pod a apply p.yaml --if-match * -o json";
        assert_eq!(
            remote(apply).as_deref(),
            Ok("apply - --if-match=* -o json --length 5")
        );
        assert_eq!(
            remote("weirctl diff p.yaml").as_deref(),
            Ok("diff - --length 5")
        );
    }

    #[test]
    fn what_goes_on_for_ever_ends_with_us() {
        assert_eq!(
            remote("weirctl watch --since 3").as_deref(),
            Ok("watch --until-eof --since=3")
        );
        let decisions = remote("weirctl decisions -f").unwrap();
        assert!(decisions.ends_with("--follow --until-eof"), "{decisions}");
    }

    #[test]
    fn what_no_pod_can_do_is_said() {
        for typed in [
            "check p.yaml",
            "explain GET http://a --file p.yaml",
            "push -l a=b p.yaml",
        ] {
            assert!(remote(&format!("weirctl {typed}")).is_err(), "{typed}");
        }
    }
}
