//! Memory as proportional set size: idle, with idle connections, after a burst, and over time.

use std::thread;
use std::time::Duration;

use e2e::collector::Collector;
use e2e::origin::Origin;
use e2e::{binaries, procfs, wait};
use serde_json::{Value, json};

use crate::contender::{self, Contender, Protocol};

const IDLE_CONNECTIONS: usize = 1_000;
const CALLS_BEFORE: u64 = 50;
const BURST: u64 = 100;

/// Measures, prints a table, and answers with `{"weir": {"idle_kib": .., ..}, ..}`. Each part has a fresh proxy.
pub(crate) fn measure(origin: &Origin, collector: &Collector, with_weir: bool) -> Value {
    println!("\n== memory (Pss)");
    let mut numbers = json!({});
    let mut starts: Vec<Box<dyn Fn() -> Option<Contender> + '_>> =
        vec![Box::new(|| contender::haproxy(origin))];
    if with_weir {
        starts.push(Box::new(|| Some(contender::weir(origin, collector))));
    }
    for start in starts {
        let Some(first) = start() else { continue };
        let mut own = json!({});
        idle(&first, &mut own);
        drop(first);
        for part in [burst, growth] {
            if let Some(contender) = start() {
                part(&contender, &mut own);
                numbers[contender.name()] = own.clone();
                println!("{:8} {own}", contender.name());
            }
        }
    }
    numbers
}

fn pss(contender: &Contender) -> u64 {
    procfs::pss_kib(contender.id().expect("it is a proxy"))
}

fn idle(contender: &Contender, numbers: &mut Value) {
    thread::sleep(Duration::from_secs(1));
    let empty = pss(contender);
    numbers["idle_kib"] = empty.into();
    let id = contender.id().expect("it is a proxy");
    let before = procfs::descriptors(id);
    let program = binaries::peer("e2e-load");
    let count = IDLE_CONNECTIONS.to_string();
    let url = contender.url(Protocol::H1);
    let words = [
        program.to_str().expect("text"),
        &url,
        "--idle",
        "--connections",
        &count,
        "--seconds",
        "10",
    ];
    thread::scope(|scope| {
        let held = scope.spawn(|| contender.exec(&words));
        wait::until_true("all idle connections", wait::LONG, || {
            procfs::descriptors(id) >= before + IDLE_CONNECTIONS
        });
        thread::sleep(Duration::from_secs(2));
        let full = pss(contender);
        numbers["with_1000_idle_kib"] = full.into();
        numbers["kib_per_idle_connection"] =
            json!((full.saturating_sub(empty)) as f64 / IDLE_CONNECTIONS as f64);
        let printed = held.join().expect("the load ends");
        assert!(
            printed.contains(&format!("idle {IDLE_CONNECTIONS}")),
            "not all were opened: {printed}"
        );
    });
}

fn burst(contender: &Contender, numbers: &mut Value) {
    let url = contender.url(Protocol::H1);
    let load = |rate: u64, seconds: &str| {
        let rate = rate.to_string();
        contender.load(&[
            &url,
            "--rate",
            &rate,
            "--seconds",
            seconds,
            "--connections",
            "2000",
            "--body-bytes",
            "4096",
        ])
    };
    load(CALLS_BEFORE, "2");
    thread::sleep(Duration::from_secs(2));
    numbers["before_burst_kib"] = pss(contender).into();
    load(CALLS_BEFORE * BURST, "5");
    numbers["after_burst_kib"] = pss(contender).into();
    thread::sleep(Duration::from_mins(1));
    numbers["minute_after_burst_kib"] = pss(contender).into();
}

/// Four stretches of calls: what grows from the second to the last grows for ever.
fn growth(contender: &Contender, numbers: &mut Value) {
    let mut points = Vec::new();
    let mut calls = 0.0;
    for _ in 0..4 {
        calls += contender.closed_loop(Protocol::H1, 20, 5);
        points.push(json!([calls, pss(contender)]));
    }
    numbers["kib_over_calls"] = points.into();
}
