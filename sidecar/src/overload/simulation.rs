//! The cores together, against a server of eight slots, in virtual time.
//!
//! Poisson arrivals, exponential service, callers that lose patience. The server never cancels:
//! what was dispatched holds its slot to the end, whether or not somebody still waits for it. Everything is drawn from a
//! seed that a failure prints. After each event the invariants are checked: in flight never above the limit, retries
//! never above the budget, no call dispatched after its deadline.

mod scenario;
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use control_api::policy::Priority;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::classify::{self, Answer, End, Pushback, RetryDecision, RetryFacts};
use super::throughput::Throughput;
use super::{Backoff, Budget, Estimates, Event, Limiter, Queue, Sketch, Ticket};
use scenario::{Bursts, Deadlines, Scenario, Second};

#[derive(Debug)]
struct Call {
    arrived: Instant,
    priority: Priority,
    attempt: u32,
    ticket: Option<Ticket>,
    state: CallState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallState {
    Waits,
    InFlight { since: Instant },
    BacksOff,
    Over,
}

#[derive(Debug, Clone, Copy)]
enum Happens {
    Arrival(Priority, f64),
    QueueTimer { call: usize, attempt: u32 },
    ServerDone { call: usize, attempt: u32 },
    BackoffOver { call: usize },
    PatienceOver { call: usize },
}

struct World {
    scenario: Scenario,
    rng: fastrand::Rng,
    begin: Instant,
    now: Instant,
    agenda: BTreeMap<(Instant, u64), Happens>,
    scheduled: u64,
    calls: Vec<Call>,
    seconds: Vec<Second>,
    server_busy: u32,
    server_queue: VecDeque<(usize, u32)>,
    limiter: Limiter,
    queue: Queue<usize>,
    throughput: Throughput,
    sketch: Sketch,
    budget: Budget,
    adapted: Instant,
    in_flight: u32,
    // In thousandths: everything that may be, and was, spent on retries.
    deposited: u64,
    withdrawn: u64,
}

const SLOTS: u32 = 8;

impl World {
    fn run(scenario: Scenario) -> Vec<Second> {
        let now = Instant::now();
        let mut world = Self {
            rng: fastrand::Rng::with_seed(scenario.seed),
            begin: now,
            now,
            agenda: BTreeMap::new(),
            scheduled: 0,
            calls: Vec::new(),
            seconds: Vec::new(),
            server_busy: 0,
            server_queue: VecDeque::new(),
            limiter: Limiter::new(scenario.admission.limit),
            queue: Queue::new(scenario.admission, now),
            throughput: Throughput::default(),
            sketch: Sketch::new(now),
            budget: Budget::new(scenario.retry.budget, now),
            adapted: now,
            in_flight: 0,
            deposited: u64::from(scenario.retry.budget.burst) * 1000,
            withdrawn: 0,
            scenario,
        };
        for (priority, rate) in world.scenario.offered.clone() {
            world.schedule(Duration::ZERO, Happens::Arrival(priority, rate));
        }
        let end = now + world.scenario.length;
        while let Some(((at, _), happens)) = world.agenda.pop_first() {
            if at >= end {
                break;
            }
            world.now = at;
            world.happen(happens);
            assert!(world.in_flight <= world.limiter.limit(), "above the limit");
            assert!(world.withdrawn <= world.deposited, "above the budget");
        }
        world.seconds
    }

    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Arrival(priority, rate) => self.arrive(priority, rate),
            Happens::QueueTimer { call, attempt } => {
                if self.calls[call].attempt == attempt && self.calls[call].state == CallState::Waits
                {
                    self.leave_queue(call);
                    self.calls[call].state = CallState::Over;
                }
            }
            Happens::ServerDone { call, attempt } => self.server_done(call, attempt),
            Happens::BackoffOver { call } => {
                if self.calls[call].state == CallState::BacksOff {
                    self.calls[call].attempt += 1;
                    self.ask(call);
                }
            }
            Happens::PatienceOver { call } => {
                match self.calls[call].state {
                    CallState::Waits => self.leave_queue(call),
                    CallState::InFlight { .. } => self.give_back(),
                    CallState::BacksOff | CallState::Over => {}
                }
                self.calls[call].state = CallState::Over;
            }
        }
    }

    fn arrive(&mut self, priority: Priority, rate: f64) {
        let in_burst = (self.now - self.begin).subsec_millis() < 100;
        let factor = if self.scenario.bursts == Bursts::Double && in_burst {
            2.0
        } else {
            1.0
        };
        let gap = self.exponential(Duration::from_secs_f64(1.0 / (rate * factor)));
        self.schedule(gap, Happens::Arrival(priority, rate));
        let call = self.calls.len();
        self.calls.push(Call {
            arrived: self.now,
            priority,
            attempt: 1,
            ticket: None,
            state: CallState::Over,
        });
        let second = self.second(self.now);
        second.calls += 1;
        second.critical_calls += u32::from(priority == Priority::Critical);
        self.schedule(self.scenario.patience, Happens::PatienceOver { call });
        self.ask(call);
    }

    /// What a destination's admission does, in one thread.
    fn ask(&mut self, call: usize) {
        if self.in_flight < self.limiter.limit() && self.queue.is_empty() {
            self.dispatch(call);
            return;
        }
        if self.queue.is_empty() {
            self.throughput.idle();
        }
        if self.now >= self.adapted + Duration::from_millis(100) {
            self.adapted = self.now;
            let (limit, per_second) = (self.limiter.limit(), self.throughput.per_second(self.now));
            let estimates = Estimates::new(&self.sketch.summary(self.now), per_second, limit);
            self.queue.adapt(estimates, limit);
        }
        let priority = match self.calls[call].attempt {
            1 => self.calls[call].priority,
            _ => self.calls[call].priority.lowered(),
        };
        let deadline = self.known_deadline(call);
        self.calls[call].state = CallState::Over;
        if let Ok(pushed) = self.queue.push(self.now, priority, deadline, call) {
            let attempt = self.calls[call].attempt;
            let left = pushed.expires - self.now;
            self.schedule(left, Happens::QueueTimer { call, attempt });
            self.calls[call].ticket = Some(pushed.ticket);
            self.calls[call].state = CallState::Waits;
            if let Some(displaced) = pushed.displaced {
                self.refuse(displaced);
            }
        }
        self.refuse_stale();
    }

    fn dispatch(&mut self, call: usize) {
        let deadline = self.known_deadline(call);
        assert!(deadline.is_none_or(|deadline| self.now < deadline), "late");
        self.in_flight += 1;
        self.calls[call].state = CallState::InFlight { since: self.now };
        let attempt = self.calls[call].attempt;
        let second = self.second(self.calls[call].arrived);
        second.attempts += 1;
        second.retries += u32::from(attempt > 1);
        self.server_queue.push_back((call, attempt));
        self.serve();
    }

    fn serve(&mut self) {
        while self.server_busy < SLOTS
            && let Some((call, attempt)) = self.server_queue.pop_front()
        {
            self.server_busy += 1;
            let mean = (self.scenario.service)(self.now - self.begin);
            let length = self.exponential(mean);
            self.schedule(length, Happens::ServerDone { call, attempt });
        }
    }

    fn server_done(&mut self, call: usize, attempt: u32) {
        self.server_busy -= 1;
        self.serve();
        let CallState::InFlight { since } = self.calls[call].state else {
            return;
        };
        if self.calls[call].attempt != attempt {
            return;
        }
        self.give_back();
        let failing = (self.scenario.failing)(self.now - self.begin);
        let failed = self.rng.f64() < failing;
        let end = End::Answered(Answer {
            status: if failed {
                StatusCode::BAD_GATEWAY
            } else {
                StatusCode::OK
            },
            grpc_status: None,
            pushback: Pushback::None,
            is_refusal_of_weir: false,
        });
        if failed {
            self.judge(call, end);
            return;
        }
        self.calls[call].state = CallState::Over;
        self.sketch.record(self.now - since, self.now);
        if attempt == 1 && classify::deposits(&end) {
            self.budget.deposit(self.now);
            self.deposited += u64::from(self.scenario.retry.budget.ratio_milli);
        }
        let second = self.second(self.calls[call].arrived);
        second.answered_in_time += 1;
        let critical = self.calls[call].priority == Priority::Critical;
        let second = self.second(self.calls[call].arrived);
        second.critical_answered_in_time += u32::from(critical);
    }

    fn judge(&mut self, call: usize, end: End<'_>) {
        self.calls[call].state = CallState::Over;
        let retry = self.scenario.retry.clone();
        let attempt = self.calls[call].attempt;
        let facts = RetryFacts {
            end,
            rule: &retry,
            method: &Method::GET,
            has_idempotency_key: false,
            body_is_replayable: true,
            attempt,
            arrived_as_retry: false,
            free_retry_used: false,
            time_left: self
                .known_deadline(call)
                .map(|at| at.saturating_duration_since(self.now)),
            p50: self.sketch.summary(self.now).p50,
            backoff: Backoff::of(&retry).draw(attempt, &mut self.rng),
            destination_is_overloaded: self.queue.is_standing(self.now),
            response_started: false,
        };
        if let RetryDecision::Retry { cost, delay } = classify::decide(&facts)
            && self.budget.withdraw(cost, self.now).is_ok()
        {
            self.withdrawn += u64::from(cost) * 1000;
            self.calls[call].state = CallState::BacksOff;
            self.schedule(delay, Happens::BackoffOver { call });
        }
    }

    fn give_back(&mut self) {
        self.in_flight -= 1;
        if self.queue.is_empty() {
            return;
        }
        self.throughput.completed(self.now);
        while self.in_flight < self.limiter.limit() {
            match self.queue.next(self.now) {
                Some(Event::Granted(call)) => {
                    self.collect(call);
                    self.dispatch(call);
                }
                Some(Event::Refused(call, _)) => self.refuse(call),
                None => break,
            }
        }
        self.refuse_stale();
    }

    fn refuse_stale(&mut self) {
        while let Some((call, _)) = self.queue.refuse_stale(self.now) {
            self.refuse(call);
        }
    }

    fn refuse(&mut self, call: usize) {
        self.collect(call);
        self.calls[call].state = CallState::Over;
    }

    fn leave_queue(&mut self, call: usize) {
        self.collect(call);
    }

    fn collect(&mut self, call: usize) {
        let ticket = self.calls[call].ticket.take().unwrap();
        self.queue.remove(ticket, self.now).unwrap();
    }

    fn known_deadline(&self, call: usize) -> Option<Instant> {
        let deadline = self.calls[call].arrived + self.scenario.patience;
        (self.scenario.deadlines == Deadlines::Propagated).then_some(deadline)
    }

    fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.rng.f64()).ln())
    }

    fn schedule(&mut self, after: Duration, happens: Happens) {
        self.scheduled += 1;
        self.agenda
            .insert((self.now + after, self.scheduled), happens);
    }

    fn second(&mut self, at: Instant) -> &mut Second {
        let index = usize::try_from((at - self.begin).as_secs()).unwrap();
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, Second::default());
        }
        &mut self.seconds[index]
    }
}
