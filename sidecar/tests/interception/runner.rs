//! Runs the cases one after the other and counts them, as libtest would print it.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::user::User;
use crate::{lifecycle, network, pod};

/// A name that is a promise, and what holds it for a user.
pub(crate) type Case = (&'static str, fn(&User));

/// How a case ended when it did not panic.
pub(crate) enum Verdict {
    Passed,
    Skipped(String),
}

struct Counts {
    filters: Vec<String>,
    passed: usize,
    skipped: usize,
    failed: Vec<String>,
}

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut counts = Counts {
        filters: arguments
            .into_iter()
            .filter(|a| !a.starts_with('-'))
            .collect(),
        passed: 0,
        skipped: 0,
        failed: Vec::new(),
    };
    for user in User::all() {
        let refusal = lifecycle::refusal(&user);
        for (name, case) in network::CASES.iter().chain(lifecycle::CASES) {
            counts.run(&format!("{name} [{user}]"), || {
                if let Some(reason) = &refusal {
                    return Verdict::Skipped(reason.clone());
                }
                case(&user);
                Verdict::Passed
            });
        }
        for (name, case) in lifecycle::WITHOUT_NAMESPACE {
            counts.run(&format!("{name} [{user}]"), || {
                case(&user);
                Verdict::Passed
            });
        }
        counts.run(&format!("the_rules_of_a_pod [{user}]"), || pod::case(&user));
    }
    say(&format!(
        "\ntest result: {}. {} passed; {} failed; {} skipped\n",
        if counts.failed.is_empty() {
            "ok"
        } else {
            "FAILED"
        },
        counts.passed,
        counts.failed.len(),
        counts.skipped,
    ));
    if counts.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        say(&format!("failed: {}", counts.failed.join(", ")));
        ExitCode::FAILURE
    }
}

impl Counts {
    fn run(&mut self, name: &str, case: impl FnOnce() -> Verdict) {
        if !self.filters.is_empty() && !self.filters.iter().any(|f| name.contains(f.as_str())) {
            return;
        }
        let word = match catch_unwind(AssertUnwindSafe(case)) {
            Ok(Verdict::Passed) => {
                self.passed += 1;
                "ok".to_owned()
            }
            Ok(Verdict::Skipped(reason)) => {
                self.skipped += 1;
                format!("SKIPPED: {reason}")
            }
            Err(_) => {
                self.failed.push(name.to_owned());
                "FAILED".to_owned()
            }
        };
        say(&format!("test {name} ... {word}"));
    }
}

pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output is open");
}
