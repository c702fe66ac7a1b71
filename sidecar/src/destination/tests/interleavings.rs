//! Random orders of everything that callers can do, and threads that do it at once.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Ask(Priority, Option<u64>, Mode),
    Poll(prop::sample::Index),
    DropWait(prop::sample::Index),
    DropPermit(prop::sample::Index),
    Answer(prop::sample::Index, u64),
    Wait(u64),
    Limit(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let priority = prop_oneof![
        Just(Priority::Critical),
        Just(Priority::Normal),
        Just(Priority::Sheddable)
    ];
    let mode =
        prop_oneof![8 => Just(Mode::Enforce), 1 => Just(Mode::Observe), 1 => Just(Mode::Off)];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (priority, prop::option::of(0_u64..500), mode)
            .prop_map(|(priority, left, mode)| Step::Ask(priority, left, mode)),
        4 => index().prop_map(Step::Poll),
        2 => index().prop_map(Step::DropWait),
        3 => index().prop_map(Step::DropPermit),
        1 => (index(), 1_u64..100).prop_map(|(index, rtt)| Step::Answer(index, rtt)),
        2 => (0_u64..300).prop_map(Step::Wait),
        1 => (0_u32..6).prop_map(Step::Limit),
    ]
}

struct Waiting {
    acquire: Acquire,
    wakes: Arc<Wakes>,
    seen: usize,
}

/// The world that the steps act on.
struct World {
    destination: Arc<Destination>,
    limit: u32,
    revision: u64,
    waiting: Vec<Waiting>,
    permits: Vec<Permit>,
}

impl World {
    fn new(limit: u32, length: u32) -> Self {
        Self {
            destination: destination(admission(limit, length)),
            limit,
            revision: 1,
            waiting: Vec::new(),
            permits: Vec::new(),
        }
    }

    async fn step(&mut self, step: Step, length: u32) {
        match step {
            Step::Ask(priority, left, mode) => {
                let deadline = left.map(|left| Instant::now() + Duration::from_millis(left));
                let before = self.destination.admission.in_flight();
                let acquire = self
                    .destination
                    .acquire(endpoint(), priority, deadline, mode);
                self.waiting.push(Waiting {
                    acquire,
                    wakes: Arc::default(),
                    seen: 0,
                });
                self.poll(self.waiting.len() - 1);
                let after = self.destination.admission.in_flight();
                assert!(mode != Mode::Enforce || after <= before || before < self.limit);
            }
            Step::Poll(index) if !self.waiting.is_empty() => {
                self.poll(index.index(self.waiting.len()));
            }
            Step::DropWait(index) if !self.waiting.is_empty() => {
                drop(self.waiting.remove(index.index(self.waiting.len())));
            }
            Step::DropPermit(index) if !self.permits.is_empty() => {
                drop(self.permits.swap_remove(index.index(self.permits.len())));
            }
            Step::Answer(index, rtt) if !self.permits.is_empty() => {
                let permit = &self.permits[index.index(self.permits.len())];
                permit.sample(&answer(200), Duration::from_millis(rtt), Instant::now());
            }
            Step::Wait(length) => tokio::time::advance(Duration::from_millis(length)).await,
            Step::Limit(limit) => {
                self.revision += 1;
                self.limit = limit.max(1);
                reconfigure(&self.destination, admission(limit, length), self.revision);
            }
            Step::Poll(_) | Step::DropWait(_) | Step::DropPermit(_) | Step::Answer(..) => {}
        }
    }

    fn poll(&mut self, index: usize) {
        let waiting = &mut self.waiting[index];
        waiting.seen = waiting.wakes.count();
        let waker = Waker::from(Arc::clone(&waiting.wakes));
        if let Poll::Ready(answer) = poll_with(&mut waiting.acquire, &waker) {
            self.permits.extend(answer.ok());
            self.waiting.remove(index);
        }
    }

    fn check(&self) {
        let snapshot = self.destination.admission.snapshot(Instant::now());
        let held = u32::try_from(self.permits.len()).unwrap();
        assert!(held <= snapshot.in_flight, "a permit is not counted");
        if snapshot.in_flight < snapshot.limit {
            assert_eq!(snapshot.waiting, 0, "somebody waits although there is room");
        }
    }

    /// Serves everybody who is left, polling only who was woken: nobody may be forgotten.
    fn finish(mut self) {
        loop {
            self.permits.clear();
            let woken = |waiting: &Waiting| waiting.wakes.count() > waiting.seen;
            let Some(index) = self.waiting.iter().position(woken) else {
                break;
            };
            self.poll(index);
        }
        assert_eq!(self.waiting.len(), 0, "somebody was never woken");
        let snapshot = self.destination.admission.snapshot(Instant::now());
        assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0));
    }
}

fn in_paused_time<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_that_callers_do_leaks_a_permit_or_forgets_a_call(
        limit in 1_u32..5,
        length in 0_u32..8,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        in_paused_time(async {
            let mut world = World::new(limit, length);
            for step in steps {
                world.step(step, length).await;
                world.check();
            }
            world.finish();
        });
    }
}

#[test]
fn threads_never_exceed_the_limit_and_all_get_their_turn() {
    const LIMIT: usize = 3;
    let destination = destination(policy::Admission {
        queue_timeout: Duration::from_mins(1),
        ..admission(3, 1000)
    });
    let in_flight = Arc::new(AtomicUsize::new(0));
    let served = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (destination, in_flight, served) = (&destination, &in_flight, &served);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                let tasks = tokio::task::LocalSet::new();
                for task in 0..8 {
                    let (destination, in_flight, served) = (
                        Arc::clone(destination),
                        Arc::clone(in_flight),
                        Arc::clone(served),
                    );
                    tasks.spawn_local(async move {
                        let mut rng = fastrand::Rng::with_seed(seed * 100 + task);
                        for _ in 0..300 {
                            hurried(&destination, &mut rng).await;
                            let permit = normal(&destination).await.unwrap();
                            let others = in_flight.fetch_add(1, Atomic::SeqCst);
                            assert!(others < LIMIT, "{others} were in flight already");
                            tokio::task::yield_now().await;
                            in_flight.fetch_sub(1, Atomic::SeqCst);
                            served.fetch_add(1, Atomic::Relaxed);
                            drop(permit);
                        }
                    });
                }
                runtime.block_on(tasks);
            });
        }
    });
    assert_eq!(served.load(Atomic::Relaxed), 4 * 8 * 300);
    let snapshot = destination.admission.snapshot(Instant::now());
    assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0));
}

/// A call that asks, is polled a few times, and goes away.
async fn hurried(destination: &Arc<Destination>, rng: &mut fastrand::Rng) {
    let mut acquire = normal(destination);
    for _ in 0..rng.u32(0..3) {
        let answer =
            std::future::poll_fn(|cx| Poll::Ready(poll_with(&mut acquire, cx.waker()))).await;
        if answer.is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
