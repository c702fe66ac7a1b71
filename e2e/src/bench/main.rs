//! The benchmark: weir beside HAProxy and beside no proxy, interleaved in one run.
//!
//! Processor time a call, added latency at a fixed rate, and memory. On a shared machine only the ratios mean anything:
//! they are what the last lines say. Load reaches weir as it does in life, by interception: the load generator is the
//! application of `weir run`.

mod contender;
mod cpu;
mod latency;
mod memory;
mod pin;
mod report;

use std::path::PathBuf;

use clap::Parser;
use serde_json::{Value, json};

use crate::contender::Contender;

/// What to measure, and how long.
#[derive(Debug, Parser)]
struct Plan {
    /// Rounds; the median of them counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load in each round, for each contender and protocol.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Connections of the closed loop.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Calls a second for the latency.
    #[arg(long, default_value_t = 2_000)]
    rate: u64,
    /// Parts to measure.
    #[arg(long, value_delimiter = ',', default_values_t = ["cpu".to_owned(), "latency".to_owned(), "memory".to_owned()])]
    parts: Vec<String>,
    /// Let the system choose the processors, instead of giving the proxy one of its own.
    #[arg(long)]
    unpinned: bool,
    /// Leave weir out.
    #[arg(long)]
    without_weir: bool,
    /// Where the numbers go as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
}

fn main() {
    let plan = Plan::parse();
    let pinned = !plan.unpinned && pin::leave_the_first();
    println!(
        "the proxy has {}",
        if pinned {
            "a processor of its own"
        } else {
            "no processor of its own"
        }
    );
    let origin = e2e::origin::Origin::start(&["--forgetful"]);
    let collector = e2e::collector::Collector::start();
    let contenders = || {
        let all = contender::all(&origin, &collector, !plan.without_weir);
        all.iter()
            .filter(|_| pinned)
            .filter_map(Contender::id)
            .for_each(pin::onto_the_first);
        all
    };
    let wants = |part: &str| plan.parts.iter().any(|wanted| wanted == part);
    let mut numbers = serde_json::Map::new();
    if wants("cpu") {
        numbers.insert("cpu".to_owned(), cpu::measure(&plan, &mut contenders()));
    }
    if wants("latency") {
        numbers.insert(
            "latency".to_owned(),
            latency::measure(&plan, &mut contenders()),
        );
    }
    if wants("memory") {
        numbers.insert(
            "memory".to_owned(),
            memory::measure(&origin, &collector, !plan.without_weir),
        );
    }
    let numbers = Value::Object(numbers);
    std::fs::write(&plan.json, format!("{numbers:#}\n")).expect("the JSON's folder is there");
    println!(
        "\n{}\nAll numbers: {}",
        report::verdicts(&numbers),
        plan.json.display()
    );
}

/// Median of some measurements; null when there are none.
fn median(values: &[f64]) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len() / 2)
        .map_or(Value::Null, |value| json!(value))
}

/// Whether a contender stands between client and server.
fn is_proxy(contender: &Contender) -> bool {
    contender.id().is_some()
}
