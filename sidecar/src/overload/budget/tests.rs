use proptest::prelude::*;

use super::*;

const TENTH: policy::Budget = policy::Budget {
    ratio_milli: 100,
    burst: 3,
};

#[test]
fn a_fresh_budget_holds_its_burst_and_no_more() {
    let now = Instant::now();
    let budget = Budget::new(TENTH, now);
    for _ in 0..3 {
        budget.withdraw(1, now).unwrap();
    }
    assert_eq!(budget.withdraw(1, now), Err(BudgetExhausted));
}

#[test]
fn ratios_are_exact() {
    for ratio_milli in [1, 100, 300, 333, 600, 999, 1000] {
        let now = Instant::now();
        let budget = Budget::new(
            policy::Budget {
                ratio_milli,
                burst: 0,
            },
            now,
        );
        let mut granted = 0;
        for _ in 0..1000 {
            budget.deposit(now);
            granted += u32::from(budget.withdraw(1, now).is_ok());
        }
        assert_eq!(granted, ratio_milli, "of 1000 successes");
    }
}

#[test]
fn a_refused_withdrawal_changes_nothing() {
    let now = Instant::now();
    let budget = Budget::new(TENTH, now);
    budget.withdraw(2, now).unwrap();
    assert_eq!(budget.withdraw(2, now), Err(BudgetExhausted));
    assert_eq!(budget.balance_milli(now), 1000);
}

#[test]
fn a_pod_with_one_call_a_second_still_holds_its_burst() {
    let mut now = Instant::now();
    let budget = Budget::new(TENTH, now);
    for _ in 0..100 {
        now += Duration::from_secs(1);
        budget.deposit(now);
    }
    assert!((3000..=3100).contains(&budget.balance_milli(now)));
}

#[test]
fn the_balance_settles_at_two_seconds_of_deposits() {
    let mut now = Instant::now();
    let budget = Budget::new(TENTH, now);
    // 1,000 successes a second at 0.1 are 100 retries a second.
    for _ in 0..20_000 {
        now += Duration::from_millis(1);
        budget.deposit(now);
    }
    let balance = budget.balance_milli(now);
    assert!((190_000..=205_000).contains(&balance), "{balance}");
    // Without successes it leaks back to the burst, and stays there.
    now += Duration::from_mins(1);
    assert_eq!(budget.balance_milli(now), 3000);
}

#[test]
fn a_destination_that_was_silent_for_a_month_leaks_as_ever() {
    let mut now = Instant::now();
    let budget = Budget::new(TENTH, now);
    now += Duration::from_hours(30 * 24);
    for _ in 0..20_000 {
        now += Duration::from_millis(1);
        budget.deposit(now);
    }
    let balance = budget.balance_milli(now);
    assert!((190_000..=205_000).contains(&balance), "{balance}");
}

#[test]
fn raising_and_lowering_the_burst_gives_nothing_away() {
    let now = Instant::now();
    let budget = Budget::new(TENTH, now);
    budget.withdraw(3, now).unwrap();
    for _ in 0..10 {
        budget.configure(policy::Budget { burst: 50, ..TENTH });
        budget.configure(TENTH);
    }
    assert_eq!(budget.balance_milli(now), 0);
    budget.configure(policy::Budget { burst: 5, ..TENTH });
    assert_eq!(budget.balance_milli(now), 2000);
}

#[derive(Debug, Clone)]
enum Step {
    Deposit,
    Withdraw(u32),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Deposit),
        (0_u32..4).prop_map(Step::Withdraw),
        (0_u32..5000).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn withdrawals_never_exceed_burst_and_deposits(
        ratio_milli in 0_u32..=1000,
        burst in 0_u32..20,
        steps in prop::collection::vec(step(), 0..400),
    ) {
        let mut now = Instant::now();
        let budget = Budget::new(policy::Budget { ratio_milli, burst }, now);
        let mut allowed = u64::from(burst) * 1000;
        let mut spent = 0;
        for step in steps {
            match step {
                Step::Deposit => {
                    budget.deposit(now);
                    allowed += u64::from(ratio_milli);
                }
                Step::Withdraw(cost) => {
                    if budget.withdraw(cost, now).is_ok() {
                        spent += u64::from(cost) * 1000;
                    }
                }
                Step::Wait(milliseconds) => now += Duration::from_millis(milliseconds.into()),
            }
            prop_assert!(spent <= allowed);
            prop_assert!(u64::from(budget.balance_milli(now)) <= allowed - spent);
        }
    }
}

#[test]
fn threads_together_cannot_overdraw() {
    let now = Instant::now();
    let budget = Budget::new(
        policy::Budget {
            ratio_milli: 250,
            burst: 3,
        },
        now,
    );
    let granted: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..5000)
                        .map(|_| {
                            budget.deposit(now);
                            u32::from(budget.withdraw(1, now).is_ok())
                        })
                        .sum::<u32>()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    let left = budget.balance_milli(now);
    assert_eq!(granted * 1000 + left, 3000 + 20_000 * 250);
}
