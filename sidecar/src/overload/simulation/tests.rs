//! What the cores promise together.

use control_api::policy;

use super::*;

/// Answers per second of eight slots at 10 ms.
const CAPACITY: f64 = 800.0;

fn scenario(seed: u64, load: f64) -> Scenario {
    Scenario {
        seed,
        length: Duration::from_secs(6),
        offered: vec![(Priority::Normal, load * CAPACITY)],
        bursts: Bursts::None,
        deadlines: Deadlines::Propagated,
        patience: Duration::from_millis(250),
        admission: policy::Admission {
            limit: SLOTS,
            ..policy::Admission::default()
        },
        retry: policy::Retry::default(),
        service: |_| Duration::from_millis(10),
        failing: |_| 0.0,
    }
}

/// The sum over calls that arrived in seconds `from..to`.
fn sum(seconds: &[Second], from: usize, to: usize, of: impl Fn(&Second) -> u32) -> f64 {
    seconds[from..to]
        .iter()
        .map(|second| f64::from(of(second)))
        .sum()
}

fn share(seconds: &[Second], from: usize, to: usize, of: [fn(&Second) -> u32; 2]) -> f64 {
    let [part, whole] = of;
    sum(seconds, from, to, part) / sum(seconds, from, to, whole)
}

#[test]
fn overload_costs_no_more_than_a_tenth_of_the_capacity() {
    for deadlines in [Deadlines::Propagated, Deadlines::Unknown] {
        for (load, seed) in [(1.0, 1), (1.2, 2), (2.0, 3), (3.0, 4), (5.0, 5)] {
            let seconds = World::run(Scenario {
                deadlines,
                ..scenario(seed, load)
            });
            let good = sum(&seconds, 1, 5, |second| second.answered_in_time) / (4.0 * CAPACITY);
            assert!(
                good > 0.9,
                "{deadlines:?}, load {load}, seed {seed}: {good}"
            );
        }
    }
}

#[test]
fn callers_less_patient_than_a_full_queue_is_long_are_still_served() {
    for deadlines in [Deadlines::Propagated, Deadlines::Unknown] {
        for (load, seed) in [(2.0, 1), (5.0, 2)] {
            let seconds = World::run(Scenario {
                deadlines,
                patience: Duration::from_millis(60),
                ..scenario(seed, load)
            });
            let good = sum(&seconds, 1, 5, |second| second.answered_in_time) / (4.0 * CAPACITY);
            assert!(
                good > 0.85,
                "{deadlines:?}, load {load}, seed {seed}: {good}"
            );
        }
    }
}

#[test]
fn bursts_of_a_healthy_load_are_absorbed() {
    for seed in 1..4 {
        let seconds = World::run(Scenario {
            bursts: Bursts::Double,
            ..scenario(seed, 0.7)
        });
        let answered = share(
            &seconds,
            1,
            5,
            [|second| second.answered_in_time, |second| second.calls],
        );
        assert!(answered > 0.99, "seed {seed}: {answered}");
    }
}

#[test]
fn critical_calls_within_the_capacity_are_served_whatever_else_is_asked() {
    let seconds = World::run(Scenario {
        offered: vec![
            (Priority::Critical, 0.7 * CAPACITY),
            (Priority::Normal, 1.5 * CAPACITY),
            (Priority::Sheddable, 0.8 * CAPACITY),
        ],
        ..scenario(1, 0.0)
    });
    let critical = share(
        &seconds,
        1,
        5,
        [
            |second| second.critical_answered_in_time,
            |second| second.critical_calls,
        ],
    );
    assert!(critical > 0.999, "{critical}");
}

#[test]
fn a_server_that_fails_half_of_its_calls_gets_a_tenth_more_at_most() {
    for (load, seed) in [(0.05, 1), (0.5, 2), (0.9, 3), (3.0, 4)] {
        let seconds = World::run(Scenario {
            failing: |_| 0.5,
            ..scenario(seed, load)
        });
        let last = seconds.len() - 1;
        let amplification = share(
            &seconds,
            0,
            last,
            [|second| second.attempts, |second| second.calls],
        );
        assert!(
            amplification <= 1.1,
            "load {load}, seed {seed}: {amplification}"
        );
    }
}

#[test]
fn a_total_outage_spends_the_burst_and_then_retries_stop() {
    let seconds = World::run(Scenario {
        length: Duration::from_secs(14),
        failing: |at| if at.as_secs() < 4 { 0.0 } else { 1.0 },
        ..scenario(1, 0.5)
    });
    let amplification = share(
        &seconds,
        9,
        13,
        [|second| second.attempts, |second| second.calls],
    );
    assert!(amplification <= 1.02, "{amplification}");
    let spent = sum(&seconds, 4, 13, |second| second.retries);
    assert!(spent <= 0.1 * 2.0 * 400.0 + 3.0, "{spent} retries");
}

#[test]
fn rare_failures_are_mended() {
    let seconds = World::run(Scenario {
        failing: |_| 0.01,
        ..scenario(1, 0.5)
    });
    let answered = share(
        &seconds,
        0,
        5,
        [|second| second.answered_in_time, |second| second.calls],
    );
    assert!(answered > 0.999, "{answered}");
}

#[test]
fn a_brown_out_is_over_when_it_is_over() {
    let seconds = World::run(Scenario {
        length: Duration::from_secs(13),
        // For five seconds the server has a fifth of its capacity.
        service: |at| match at.as_secs() {
            3..8 => Duration::from_millis(50),
            _ => Duration::from_millis(10),
        },
        ..scenario(1, 0.9)
    });
    let during = sum(&seconds, 4, 8, |second| second.answered_in_time) / (4.0 * CAPACITY / 5.0);
    assert!(during > 0.9, "{during} of what was left");
    let after = share(
        &seconds,
        9,
        12,
        [|second| second.answered_in_time, |second| second.calls],
    );
    assert!(after > 0.95, "{after}");
}
