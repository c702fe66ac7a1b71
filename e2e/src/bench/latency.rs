//! Latency at a fixed rate, and what each proxy adds to it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::contender::{Contender, Protocol};
use crate::{Plan, median};

const QUANTILES: [&str; 2] = ["p50_ms", "p99_ms"];

/// Measures, prints a table, and answers with `{"h1": {"weir": {"p50_ms": .., "added_p50_ms": ..}, ..}, ..}`.
pub(crate) fn measure(plan: &Plan, contenders: &mut [Contender]) -> Value {
    println!("\n== latency at {} calls a second", plan.rate);
    let mut taken: BTreeMap<(&str, &str, &str), Vec<f64>> = BTreeMap::new();
    let (rate, seconds) = (plan.rate.to_string(), plan.seconds.to_string());
    for _ in 0..plan.rounds {
        for protocol in Protocol::BOTH {
            for contender in contenders.iter() {
                let url = contender.url(protocol);
                let measured = contender.load(&[
                    &url,
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
                ]);
                assert_eq!(
                    measured.count("offered"),
                    measured.count("answered"),
                    "calls failed: {}",
                    measured.0
                );
                for quantile in QUANTILES {
                    let key = (protocol.name(), contender.name(), quantile);
                    taken
                        .entry(key)
                        .or_default()
                        .push(measured.number(quantile));
                }
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
            let mut shown = [0.0; 4];
            for (index, quantile) in QUANTILES.into_iter().enumerate() {
                let of = |name| {
                    taken
                        .get(&(protocol.name(), name, quantile))
                        .cloned()
                        .unwrap_or_default()
                };
                let (own, direct) = (of(contender.name()), of("direct"));
                let added: Vec<f64> = own
                    .iter()
                    .zip(&direct)
                    .map(|(own, direct)| own - direct)
                    .collect();
                let entry = &mut numbers[protocol.name()][contender.name()];
                entry[quantile] = median(&own);
                entry[format!("added_{quantile}")] = median(&added);
                shown[index] = median(&own).as_f64().unwrap_or(0.0);
                shown[index + 2] = median(&added).as_f64().unwrap_or(0.0);
            }
            let [p50, p99, added_p50, added_p99] = shown;
            let (protocol, name) = (protocol.name(), contender.name());
            println!(
                "{protocol:4} {name:8} {p50:>9.3} {p99:>9.3} {added_p50:>11.3} {added_p99:>11.3}"
            );
        }
    }
    numbers
}
