//! The verdicts: the promised numbers beside the measured ones.

use std::fmt::Write;

use serde_json::Value;

/// One line a promise. What was not measured is said to be so.
pub(crate) fn verdicts(numbers: &Value) -> String {
    let mut text = String::new();
    for (protocol, what) in [("h1", "h1 to h1"), ("h2", "h2, HAProxy's to h1")] {
        let cost = |name: &str| numbers["cpu"][protocol][name]["us_per_call"].as_f64();
        let ratio = cost("weir")
            .zip(cost("haproxy"))
            .map(|(weir, haproxy)| weir / haproxy);
        line(
            &mut text,
            &format!("processor time a call, {what}, of HAProxy's"),
            ratio,
            1.0,
        );
    }
    let memory = &numbers["memory"]["weir"];
    let mib = memory["idle_kib"].as_f64().map(|kib| kib / 1024.0);
    line(&mut text, "idle Pss, MiB", mib, 12.0);
    line(
        &mut text,
        "Pss of an idle connection, KiB",
        memory["kib_per_idle_connection"].as_f64(),
        24.0,
    );
    let back = memory["minute_after_burst_kib"]
        .as_f64()
        .zip(memory["before_burst_kib"].as_f64());
    line(
        &mut text,
        "Pss a minute after a burst, of that before",
        back.map(|(after, before)| after / before),
        1.2,
    );
    text
}

fn line(text: &mut String, what: &str, measured: Option<f64>, at_most: f64) {
    let verdict = match measured {
        None => "SKIPPED: not measured in this run".to_owned(),
        Some(value) => format!(
            "{value:.2} (at most {at_most}): {}",
            if value <= at_most {
                "reached"
            } else {
                "MISSED"
            }
        ),
    };
    writeln!(text, "{what}: {verdict}").expect("a string takes all");
}
