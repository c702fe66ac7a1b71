//! Processor time of the proxy a call: closed loop, small bodies.

use std::collections::BTreeMap;

use e2e::procfs;
use serde_json::{Value, json};

use crate::contender::{Contender, Protocol};
use crate::{Plan, is_proxy, median};

/// Measures, prints a table, and answers with `{"h1": {"weir": {"us_per_call": ..}, ..}, ..}`.
pub(crate) fn measure(plan: &Plan, contenders: &mut [Contender]) -> Value {
    println!(
        "\n== processor time a call: {} connections, closed loop",
        plan.connections
    );
    let mut costs: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    let mut rates: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for round in 0..=plan.rounds {
        for protocol in Protocol::BOTH {
            for contender in contenders.iter() {
                // Round 0 warms up: pools, allocators, the processor's frequency.
                let seconds = if round == 0 { 1 } else { plan.seconds };
                let before = contender.id().map(procfs::cpu);
                let calls = contender.closed_loop(protocol, plan.connections, seconds);
                if round == 0 {
                    continue;
                }
                let key = (protocol.name(), contender.name());
                rates.entry(key).or_default().push(calls / seconds as f64);
                if let (Some(id), Some(before)) = (contender.id(), before) {
                    let spent = procfs::cpu(id)
                        .checked_sub(before)
                        .expect("processor time only grows");
                    costs
                        .entry(key)
                        .or_default()
                        .push(spent.as_secs_f64() * 1e6 / calls);
                }
            }
        }
    }
    let mut numbers = json!({});
    println!(
        "{:4} {:8} {:>12} {:>12}   rounds",
        "", "", "us a call", "calls/s"
    );
    for protocol in Protocol::BOTH {
        for contender in contenders.iter() {
            let key = (protocol.name(), contender.name());
            let cost = costs.get(&key).cloned().unwrap_or_default();
            let rate = median(rates.get(&key).map_or(&[], Vec::as_slice));
            numbers[key.0][key.1] =
                json!({"us_per_call": median(&cost), "calls_per_second": rate, "rounds": cost});
            let shown = if is_proxy(contender) {
                format!("{:.2}", median(&cost).as_f64().unwrap_or(0.0))
            } else {
                "-".into()
            };
            let rounds: Vec<String> = cost.iter().map(|cost| format!("{cost:.1}")).collect();
            println!(
                "{:4} {:8} {shown:>12} {:>12.0}   {}",
                key.0,
                key.1,
                rate.as_f64().unwrap_or(0.0),
                rounds.join(" ")
            );
        }
    }
    numbers
}
