//! Latency at a fixed rate, and what each proxy adds to it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::contender::{Contender, Protocol};
use crate::{Plan, median};

const QUANTILES: [&str; 2] = ["p50_ms", "p99_ms"];

/// What was measured, by protocol, contender and quantile: one value a round.
type Taken = BTreeMap<(&'static str, &'static str, &'static str), Vec<f64>>;

/// Measures, prints a table, and answers with `{"h1": {"weir": {"p50_ms": .., "added_p50_ms": ..}, ..}, ..}`.
pub(crate) fn measure(plan: &Plan, contenders: &mut [Contender]) -> Value {
    println!("\n== latency at {} calls a second", plan.rate);
    let mut taken = Taken::new();
    for _ in 0..plan.rounds {
        for protocol in Protocol::BOTH {
            for contender in contenders.iter() {
                round(plan, contender, protocol, &mut taken);
            }
        }
    }
    let mut numbers = json!({});
    println!(
        "{:4} {:8} {:>9} {:>9} {:>11} {:>11}",
        "", "", "p50 ms", "p99 ms", "added p50", "added p99"
    );
    for protocol in Protocol::BOTH {
        for contender in contenders.iter() {
            numbers[protocol.name()][contender.name()] = row(contender, protocol, &taken);
        }
    }
    numbers
}

fn round(plan: &Plan, contender: &Contender, protocol: Protocol, taken: &mut Taken) {
    let url = contender.url(protocol);
    let (rate, seconds) = (plan.rate.to_string(), plan.seconds.to_string());
    let arguments = [
        url.as_str(),
        "--rate",
        &rate,
        "--seconds",
        &seconds,
        "--warmup",
        "0.5",
        "--arrivals",
        "fixed",
        "--connections",
        "50",
        "--protocol",
        protocol.name(),
    ];
    let measured = contender.load(&arguments);
    assert_eq!(
        measured.count("offered"),
        measured.count("answered"),
        "calls failed: {}",
        measured.0
    );
    for quantile in QUANTILES {
        taken
            .entry((protocol.name(), contender.name(), quantile))
            .or_default()
            .push(measured.number(quantile));
    }
}

/// One contender's medians, and what it adds to the direct way in the same round.
fn row(contender: &Contender, protocol: Protocol, taken: &Taken) -> Value {
    let (protocol, name) = (protocol.name(), contender.name());
    let mut row = json!({});
    for quantile in QUANTILES {
        let of = |name| {
            taken
                .get(&(protocol, name, quantile))
                .cloned()
                .unwrap_or_default()
        };
        let (own, direct) = (of(name), of("direct"));
        let added: Vec<f64> = own
            .iter()
            .zip(&direct)
            .map(|(own, direct)| own - direct)
            .collect();
        row[quantile] = median(&own);
        row[format!("added_{quantile}")] = median(&added);
    }
    let number = |key: &str| row[key].as_f64().unwrap_or(0.0);
    let (p50, p99) = (number("p50_ms"), number("p99_ms"));
    let (added_p50, added_p99) = (number("added_p50_ms"), number("added_p99_ms"));
    println!("{protocol:4} {name:8} {p50:>9.3} {p99:>9.3} {added_p50:>11.3} {added_p99:>11.3}");
    row
}
