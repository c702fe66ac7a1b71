use proptest::prelude::*;

use super::*;

const SETTING: policy::Admission = policy::Admission {
    limit: 8,
    queue_length: Some(4),
    queue_target: None,
    queue_timeout: Duration::from_secs(1),
};

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn known(p50: u64, p99: u64, rate: f64) -> Estimates {
    Estimates {
        p50: Some(milliseconds(p50)),
        p99: Some(milliseconds(p99)),
        rate: Some(rate),
    }
}

/// A queue of names.
struct Bench {
    queue: Queue<&'static str>,
    now: Instant,
}

impl Bench {
    fn new(setting: policy::Admission) -> Self {
        let now = Instant::now();
        Self {
            queue: Queue::new(setting, now),
            now,
        }
    }

    fn wait(&mut self, length: u64) {
        self.now += milliseconds(length);
    }

    fn push(&mut self, name: &'static str, priority: Priority) -> Ticket {
        self.queue
            .push(self.now, priority, None, name)
            .unwrap()
            .ticket
    }

    fn push_until(&mut self, name: &'static str, milliseconds_left: u64) -> Result<Ticket, Shed> {
        let deadline = self.now + milliseconds(milliseconds_left);
        self.queue
            .push(self.now, Priority::Normal, Some(deadline), name)
            .map(|pushed| pushed.ticket)
    }

    fn next(&mut self) -> Option<&'static str> {
        match self.queue.next(self.now)? {
            Event::Granted(name) => Some(name),
            Event::Refused(name, shed) => panic!("{name} was refused: {shed:?}"),
        }
    }

    fn order(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

#[test]
fn higher_priorities_go_first_and_equals_in_the_order_they_came() {
    let mut bench = Bench::new(SETTING);
    bench.push("low", Priority::Sheddable);
    bench.push("one", Priority::Normal);
    bench.push("two", Priority::Normal);
    bench.push("high", Priority::Critical);
    assert_eq!(bench.order(), ["high", "one", "two", "low"]);
}

#[test]
fn a_removed_call_is_not_handed_out() {
    let mut bench = Bench::new(SETTING);
    bench.push("one", Priority::Normal);
    let two = bench.push("two", Priority::Normal);
    bench.push("three", Priority::Normal);
    assert!(matches!(
        bench.queue.remove(two, bench.now),
        Some(Fate::Waiting(_))
    ));
    assert_eq!(bench.order(), ["one", "three"]);
}

#[test]
fn a_granted_call_learns_it_by_its_ticket() {
    let mut bench = Bench::new(SETTING);
    let ticket = bench.push("one", Priority::Normal);
    assert_eq!(
        bench.queue.fate(&ticket),
        Some(Fate::Waiting(Shed::QueueTimeout))
    );
    bench.next();
    assert_eq!(bench.queue.fate(&ticket), Some(Fate::Granted));
    assert_eq!(bench.queue.remove(ticket, bench.now), Some(Fate::Granted));
}

#[test]
fn a_full_queue_refuses_a_call_that_matters_no_more_than_the_others() {
    let mut bench = Bench::new(SETTING);
    for name in ["one", "two", "three", "four"] {
        bench.push(name, Priority::Normal);
    }
    for priority in [Priority::Normal, Priority::Sheddable] {
        let refused = bench.queue.push(bench.now, priority, None, "five");
        assert_eq!(refused.unwrap_err(), Shed::QueueFull);
    }
}

#[test]
fn a_full_queue_displaces_the_call_that_would_be_served_last() {
    let mut bench = Bench::new(SETTING);
    bench.push("low one", Priority::Sheddable);
    let last = bench.push("low two", Priority::Sheddable);
    bench.push("one", Priority::Normal);
    bench.push("two", Priority::Normal);
    let pushed = bench
        .queue
        .push(bench.now, Priority::Critical, None, "high")
        .unwrap();
    assert_eq!(pushed.displaced, Some("low two"));
    assert_eq!(
        bench.queue.fate(&last),
        Some(Fate::Refused(Shed::Displaced))
    );
    assert_eq!(bench.order(), ["high", "one", "two", "low one"]);
}

#[test]
fn a_call_that_cannot_make_its_deadline_is_refused_at_once() {
    let mut bench = Bench::new(SETTING);
    bench.queue.adapt(known(20, 40, 100.0), 8);
    bench.push("one", Priority::Normal);
    bench.push("two", Priority::Normal);
    // Two ahead at 100 a second, and 20 ms for the answer.
    assert_eq!(
        bench.push_until("three", 40).unwrap_err(),
        Shed::DeadlineUnreachable
    );
    bench.push_until("three", 41).unwrap();
}

#[test]
fn nothing_known_means_let_in() {
    let mut bench = Bench::new(SETTING);
    bench.push("one", Priority::Normal);
    bench.push_until("two", 1).unwrap();
}

#[test]
fn a_call_is_not_handed_out_when_its_time_is_over() {
    let mut bench = Bench::new(SETTING);
    bench.push("timeout", Priority::Normal);
    bench.push_until("deadline", 900).unwrap();
    bench.wait(1000);
    bench.push("fresh", Priority::Normal);
    let events: Vec<_> = std::iter::from_fn(|| bench.queue.next(bench.now))
        .map(|event| match event {
            Event::Granted(name) => (name, None),
            Event::Refused(name, shed) => (name, Some(shed)),
        })
        .collect();
    assert_eq!(
        events,
        [
            ("timeout", Some(Shed::QueueTimeout)),
            ("deadline", Some(Shed::DeadlineUnreachable)),
            ("fresh", None),
        ]
    );
}

#[test]
fn a_standing_queue_serves_the_newest_and_refuses_the_oldest() {
    let mut bench = Bench::new(policy::Admission {
        queue_length: Some(100),
        ..SETTING
    });
    bench.queue.adapt(known(10, 20, 800.0), 8);
    let old = bench.push("old", Priority::Normal);
    bench.wait(190);
    bench.push("middle", Priority::Normal);
    assert!(!bench.queue.is_standing(bench.now));
    bench.wait(10);
    bench.push("young", Priority::Normal);
    // Above the target of 2 ms for an interval of 200 ms.
    assert!(bench.queue.is_standing(bench.now));
    assert_eq!(bench.next(), Some("young"));
    assert_eq!(
        bench.queue.refuse_stale(bench.now),
        Some(("old", Shed::QueueStanding))
    );
    assert_eq!(bench.queue.refuse_stale(bench.now), None);
    assert_eq!(
        bench.queue.fate(&old),
        Some(Fate::Refused(Shed::QueueStanding))
    );
    assert_eq!(bench.next(), Some("middle"));
    assert!(!bench.queue.is_standing(bench.now), "emptied");
}

#[test]
fn a_full_standing_queue_takes_the_newcomer_for_the_oldest() {
    let mut bench = Bench::new(SETTING);
    bench.queue.adapt(known(10, 20, 800.0), 8);
    for name in ["one", "two", "three", "four"] {
        bench.push(name, Priority::Normal);
        bench.wait(50);
    }
    let pushed = bench
        .queue
        .push(bench.now, Priority::Normal, None, "five")
        .unwrap();
    assert_eq!(pushed.displaced, Some("one"));
    assert_eq!(bench.next(), Some("five"));
}

#[test]
fn a_standing_queue_of_low_priority_leaves_higher_ones_first_come_first_served() {
    let mut bench = Bench::new(SETTING);
    bench.queue.adapt(known(10, 20, 800.0), 8);
    bench.push("low one", Priority::Sheddable);
    bench.wait(200);
    bench.push("low two", Priority::Sheddable);
    bench.push("one", Priority::Normal);
    bench.push("two", Priority::Normal);
    assert_eq!(bench.order(), ["one", "two", "low two", "low one"]);
}

#[test]
fn the_automatic_length_takes_a_burst_of_an_interval() {
    let mut queue = Queue::<()>::new(
        policy::Admission {
            queue_length: None,
            ..SETTING
        },
        Instant::now(),
    );
    assert_eq!(queue.length(), 16, "twice the limit, and never less");
    queue.adapt(known(10, 20, 800.0), 8);
    assert_eq!(queue.length(), 40, "800 a second for 50 ms");
    queue.adapt(known(10, 20, 1e9), 8);
    assert_eq!(queue.length(), 10_000, "and never more");
}

#[derive(Debug, Clone)]
enum Step {
    Push(Priority, Option<u64>),
    Next,
    RefuseStale,
    Remove(prop::sample::Index),
    Wait(u64),
    Adapt(u64, f64),
}

fn step() -> impl Strategy<Value = Step> {
    let priority = prop_oneof![
        Just(Priority::Critical),
        Just(Priority::Normal),
        Just(Priority::Sheddable)
    ];
    prop_oneof![
        4 => (priority, prop::option::of(0_u64..300)).prop_map(|(priority, left)| Step::Push(priority, left)),
        3 => Just(Step::Next),
        1 => Just(Step::RefuseStale),
        2 => any::<prop::sample::Index>().prop_map(Step::Remove),
        2 => (0_u64..200).prop_map(Step::Wait),
        1 => (1_u64..200, 1.0..5000.0).prop_map(|(p50, rate)| Step::Adapt(p50, rate)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Against a model that is nothing but a list of calls.
    #[test]
    fn the_queue_never_loses_a_call_nor_hands_out_one_whose_time_is_over(
        length in 0_u32..12,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let start = Instant::now();
        let mut now = start;
        let setting = policy::Admission { queue_length: Some(length), ..SETTING };
        let mut queue = Queue::<usize>::new(setting, now);
        // Per call: ticket, expiry, and whether it is still expected to wait.
        let mut calls: Vec<(Option<Ticket>, Instant, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(length) => now += milliseconds(length),
                Step::Adapt(p50, rate) => queue.adapt(known(p50, 2 * p50, rate), 8),
                Step::Push(priority, left) => {
                    let deadline = left.map(|left| now + milliseconds(left));
                    if let Ok(pushed) = queue.push(now, priority, deadline, calls.len()) {
                        prop_assert!(pushed.expires <= now + setting.queue_timeout);
                        prop_assert!(deadline.is_none_or(|deadline| pushed.expires <= deadline));
                        if let Some(displaced) = pushed.displaced {
                            prop_assert!(std::mem::take(&mut calls[displaced].2));
                        }
                        calls.push((Some(pushed.ticket), pushed.expires, true));
                    }
                }
                Step::Next => match queue.next(now) {
                    Some(Event::Granted(call)) => {
                        prop_assert!(std::mem::take(&mut calls[call].2));
                        prop_assert!(now < calls[call].1, "handed out after its time");
                    }
                    Some(Event::Refused(call, _)) => {
                        prop_assert!(std::mem::take(&mut calls[call].2));
                    }
                    None => prop_assert!(queue.is_empty()),
                },
                Step::RefuseStale => if let Some((call, _)) = queue.refuse_stale(now) {
                    prop_assert!(std::mem::take(&mut calls[call].2));
                },
                Step::Remove(index) => if !calls.is_empty() {
                    let index = index.index(calls.len());
                    let (ticket, _, waits) = &mut calls[index];
                    if let Some(ticket) = ticket.take() {
                        let fate = queue.remove(ticket, now).unwrap();
                        prop_assert_eq!(matches!(fate, Fate::Waiting(_)), *waits);
                        *waits = false;
                    }
                },
            }
            let waiting = calls.iter().filter(|(_, _, waits)| *waits).count();
            prop_assert_eq!(u32::try_from(waiting).unwrap(), queue.len());
            prop_assert!(queue.len() <= length);
        }
        for (ticket, ..) in calls {
            if let Some(ticket) = ticket {
                prop_assert!(queue.remove(ticket, now).is_some());
            }
        }
        prop_assert!(queue.is_empty());
        prop_assert!(queue.slots.is_empty(), "no slot is leaked");
    }
}
