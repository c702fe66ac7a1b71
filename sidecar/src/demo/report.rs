//! The demo's words: its introduction, its progress line, its table.

use std::fmt::Write as _;

use serde::Serialize;

use super::client::{IN_TIME, PATIENCE, Tally};

/// One scenario's numbers.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// `overload` or `faults`.
    pub name: &'static str,
    /// The client talks to the server directly.
    pub without: Measured,
    /// The client's calls pass weir.
    pub with: Measured,
}

/// What was measured in one arm of a phase.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Measured {
    /// Calls that the client made, per second.
    pub offered_per_second: f64,
    /// Calls that were answered with success within 250 ms, per second.
    pub answered_in_time_per_second: f64,
    /// Median of the calls that were not refused, in milliseconds.
    pub p50_ms: f64,
    /// Their 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// Calls that weir refused.
    pub refused: u64,
    /// Calls that reached the server per call that the client made.
    pub server_calls_per_call: f64,
}

impl Measured {
    /// From what the client saw and how many calls the server received.
    #[must_use]
    pub fn new(tally: &Tally, received: u64) -> Self {
        let per_second =
            |count: u64| round(ratio(count, 1) / tally.seconds.max(f64::MIN_POSITIVE), 1);
        Self {
            offered_per_second: per_second(tally.made),
            answered_in_time_per_second: per_second(tally.in_time),
            p50_ms: round(tally.p50_ms, 1),
            p99_ms: round(tally.p99_ms, 1),
            refused: tally.refused,
            server_calls_per_call: round(ratio(received, tally.made), 3),
        }
    }
}

/// What the newcomer is about to see.
#[must_use]
pub fn introduction(interception: &str) -> String {
    format!(
        "A server that can do 800 calls a second (8 at a time, 10 ms each), and a client that wants each answer within \
         {} ms.\nFirst 3 times too many calls, then a server that fails every second call; each without and with weir.\n\
         With weir the client's calls are {interception}.\n",
        IN_TIME.as_millis()
    )
}

/// One line that is shown while a phase runs.
#[must_use]
pub fn progress(phase: &str, with_weir: bool, tally: &Tally) -> String {
    let arm = if with_weir {
        "with weir"
    } else {
        "without weir"
    };
    format!(
        "{phase:<9} {arm:<13} {:>3.0} s   made {:>6}   in time {:>6}   late {:>5}   refused {:>6}   failed {:>5}   \
         given up {:>5}   p99 {:>6.0} ms",
        tally.seconds,
        tally.made,
        tally.in_time,
        tally.late,
        tally.refused,
        tally.failed,
        tally.unanswered,
        tally.p99_ms
    )
}

/// The table at the end, and the line that says what was seen.
#[must_use]
pub fn table(phases: &[Phase]) -> String {
    let mut text = format!(
        "\n{:<10}{:<14}{:>10}{:>14}{:>10}{:>10}{:>10}{:>16}\n{:<10}{:<14}{:>10}{:>14}{:>10}{:>10}{:>10}{:>16}\n",
        "phase",
        "",
        "offered/s",
        "in time/s",
        "p50 ms",
        "p99 ms",
        "refused",
        "server calls",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "per call"
    );
    for phase in phases {
        for (arm, measured) in [("without weir", &phase.without), ("with weir", &phase.with)] {
            // Writing to a String cannot fail.
            let _infallible = writeln!(
                text,
                "{:<10}{arm:<14}{:>10.0}{:>14.0}{:>10.0}{:>10.0}{:>10}{:>16.2}",
                phase.name,
                measured.offered_per_second,
                measured.answered_in_time_per_second,
                measured.p50_ms,
                measured.p99_ms,
                measured.refused,
                measured.server_calls_per_call,
            );
        }
    }
    text.push_str(&conclusion(phases));
    text
}

fn conclusion(phases: &[Phase]) -> String {
    let mut text = String::new();
    for phase in phases {
        let (without, with) = (&phase.without, &phase.with);
        let line = match phase.name {
            _ if with.answered_in_time_per_second <= without.answered_in_time_per_second => {
                format!(
                    "\nThe {} phase showed nothing: this machine was too busy with other work, or this is no release build.",
                    phase.name
                )
            }
            "overload" => format!(
                "\nWhat you saw: under the same overload {:.0} calls a second were answered in time without weir and {:.0} \
                 with it, since what could not be served was refused at once instead of waiting up to {} s for nothing.",
                without.answered_in_time_per_second,
                with.answered_in_time_per_second,
                PATIENCE.as_secs()
            ),
            _ => format!(
                "\nWhen every second call failed, retries raised the answers from {:.0} to {:.0} a second and cost the server \
                 {:.2} calls per call: the budget allows no storm.",
                without.answered_in_time_per_second,
                with.answered_in_time_per_second,
                with.server_calls_per_call
            ),
        };
        text.push_str(&line);
    }
    text.push_str("\nNext: `weir run -- curl -v http://localhost:PORT/` against a service of yours, and `weirctl status` beside it.");
    text
}

#[allow(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "counts of one run are far below 2^52"
)]
fn ratio(count: u64, of: u64) -> f64 {
    count as f64 / of.max(1) as f64
}

fn round(number: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn tally() -> Tally {
        Tally {
            seconds: 6.0,
            made: 14_400,
            in_time: 4_680,
            late: 12,
            refused: 9_700,
            failed: 0,
            unanswered: 8,
            p50_ms: 20.04,
            p99_ms: 61.26,
        }
    }

    #[test]
    fn numbers_are_rates_over_the_time_in_which_calls_were_offered() {
        let measured = serde_json::to_string_pretty(&Measured::new(&tally(), 4_700)).unwrap();
        expect![[r#"
            {
              "offered_per_second": 2400.0,
              "answered_in_time_per_second": 780.0,
              "p50_ms": 20.0,
              "p99_ms": 61.3,
              "refused": 9700,
              "server_calls_per_call": 0.326
            }"#]]
        .assert_eq(&measured);
    }

    #[test]
    fn a_run_without_a_call_has_no_infinite_number() {
        let measured = Measured::new(&Tally::default(), 0);
        assert!(measured.offered_per_second == 0.0 && measured.server_calls_per_call == 0.0);
    }

    #[test]
    fn the_table_says_what_was_seen_and_what_to_try_next() {
        let with = Measured::new(&tally(), 4_700);
        let without = Measured {
            answered_in_time_per_second: 31.7,
            refused: 0,
            server_calls_per_call: 1.0,
            ..with
        };
        let phase = |name| Phase {
            name,
            without,
            with,
        };
        expect![[r"

            phase                    offered/s     in time/s    p50 ms    p99 ms   refused    server calls
                                                                                                  per call
            overload  without weir        2400            32        20        61         0            1.00
            overload  with weir           2400           780        20        61      9700            0.33
            faults    without weir        2400            32        20        61         0            1.00
            faults    with weir           2400           780        20        61      9700            0.33

            What you saw: under the same overload 32 calls a second were answered in time without weir and 780 with it, since what could not be served was refused at once instead of waiting up to 1 s for nothing.
            When every second call failed, retries raised the answers from 32 to 780 a second and cost the server 0.33 calls per call: the budget allows no storm.
            Next: `weir run -- curl -v http://localhost:PORT/` against a service of yours, and `weirctl status` beside it."]].assert_eq(&table(&[phase("overload"), phase("faults")]));
    }

    #[test]
    fn what_was_not_seen_is_not_claimed() {
        let with = Measured::new(&tally(), 4_700);
        let phase = Phase {
            name: "overload",
            without: with,
            with,
        };
        let text = table(&[phase]);
        assert!(
            text.contains("showed nothing") && !text.contains("What you saw"),
            "{text}"
        );
    }

    #[test]
    fn the_progress_line_fits_a_wide_terminal() {
        let line = progress("overload", true, &tally());
        expect!["overload  with weir       6 s   made  14400   in time   4680   late    12   refused   9700   failed     0   given up     8   p99     61 ms"].assert_eq(&line);
        assert!(line.len() <= 160, "{}", line.len());
    }
}
