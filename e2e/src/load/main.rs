//! A load generator: open loop, so that a slow server does not slow the load down.
//!
//! A call's latency counts from the moment it was meant to start (no coordinated omission). Prints one JSON object.
//! With `--closed` each connection makes its next call when the last one is answered; with `--idle` it makes one call
//! on each connection and then holds them open.

mod client;
mod pace;
mod results;

use std::rc::Rc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::client::{Client, Outcome};
use crate::pace::Pace;
use crate::results::Results;

/// What to send.
#[derive(Debug, Clone, Parser)]
struct Plan {
    /// Where to, as `http://HOST:PORT/PATH`.
    url: http::Uri,
    /// Calls a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// When calls start.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// Protocol.
    #[arg(long, value_enum, default_value_t = Protocol::H1)]
    protocol: Protocol,
    /// Most connections.
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// Milliseconds after which a call counts as too late.
    #[arg(long, default_value_t = 250.0)]
    in_time_ms: f64,
    /// Milliseconds after which the caller goes away.
    #[arg(long, default_value_t = 5_000.0)]
    timeout_ms: f64,
    /// Method.
    #[arg(long, default_value = "GET")]
    method: http::Method,
    /// Bytes of body.
    #[arg(long, default_value_t = 0)]
    body_bytes: usize,
    /// Headers, as `name: value`.
    #[arg(long)]
    header: Vec<String>,
    /// Give each call an `x-e2e-id`.
    #[arg(long)]
    ids: bool,
    /// Each connection makes its next call when the last one is answered; `--rate` is not used.
    #[arg(long)]
    closed: bool,
    /// Make one call on each connection, print `idle`, and hold them for `--seconds`.
    #[arg(long)]
    idle: bool,
    /// Seconds at the beginning that are not counted.
    #[arg(long, default_value_t = 0.0)]
    warmup: f64,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// When calls start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Arrivals {
    /// At random, independent of each other.
    Poisson,
    /// Evenly.
    Fixed,
}

/// What calls are sent by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 with prior knowledge.
    H2,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let plan = Rc::new(Plan::parse());
    let client = Rc::new(Client::new(Rc::clone(&plan)));
    LocalSet::new()
        .run_until(async {
            if plan.idle {
                hold(&plan, &client).await;
                return;
            }
            let results = if plan.closed {
                closed(&plan, &client).await
            } else {
                open(&plan, &client).await
            };
            println!("{}", results.json());
        })
        .await;
}

/// Starts calls by the clock, whether or not earlier ones were answered.
async fn open(plan: &Rc<Plan>, client: &Rc<Client>) -> Results {
    let mut results = Results::new(plan);
    let mut pace = Pace::new(plan.rate, plan.arrivals, plan.seed);
    let mut calls = JoinSet::new();
    let start = Instant::now();
    let counted_from = start + Duration::from_secs_f64(plan.warmup);
    let end = counted_from + Duration::from_secs_f64(plan.seconds);
    let mut number = 0_u64;
    loop {
        let intended = pace.next().await;
        if intended >= end {
            break;
        }
        let client = Rc::clone(client);
        calls.spawn_local(async move {
            let outcome = client.call(number).await;
            (intended, intended.elapsed(), outcome)
        });
        number += 1;
        while let Some(Ok((intended, took, outcome))) = calls.try_join_next() {
            results.add(intended >= counted_from, took, &outcome);
        }
    }
    while let Some(Ok((intended, took, outcome))) = calls.join_next().await {
        results.add(intended >= counted_from, took, &outcome);
    }
    results.lasted(end - counted_from);
    results
}

/// Keeps every connection busy with one call at a time.
async fn closed(plan: &Rc<Plan>, client: &Rc<Client>) -> Results {
    let counted_from = Instant::now() + Duration::from_secs_f64(plan.warmup);
    let end = counted_from + Duration::from_secs_f64(plan.seconds);
    let mut loops = JoinSet::new();
    for worker in 0..plan.connections {
        let client = Rc::clone(client);
        loops.spawn_local(async move {
            let mut done: Vec<(bool, Duration, Outcome)> = Vec::new();
            let mut number = worker as u64 * 1_000_000_000;
            while Instant::now() < end {
                let begun = Instant::now();
                let outcome = client.call(number).await;
                done.push((begun >= counted_from, begun.elapsed(), outcome));
                number += 1;
            }
            done
        });
    }
    let mut results = Results::new(plan);
    while let Some(Ok(done)) = loops.join_next().await {
        for (counted, took, outcome) in done {
            results.add(counted, took, &outcome);
        }
    }
    results.lasted(end - counted_from);
    results
}

/// Opens every connection by a call, and holds them.
async fn hold(plan: &Rc<Plan>, client: &Rc<Client>) {
    let mut held = Vec::new();
    for number in 0..plan.connections {
        // A refused connection shows in the count.
        if let Ok(connection) = client.connect_and_call(number as u64).await {
            held.push(connection);
        }
    }
    println!("idle {}", held.len());
    tokio::time::sleep(Duration::from_secs_f64(plan.seconds)).await;
}
