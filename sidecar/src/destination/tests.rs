//! The wait for a permit: what a caller may rely on, whatever it does to its future.

mod interleavings;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::task::{Context, Poll, Wake, Waker};

use control_api::policy::{self, Breaker};

use super::*;
use crate::error::{Shed, UpstreamError};
use crate::overload::classify::{Answer, End};

/// A destination with this admission.
fn destination(admission: policy::Admission) -> Arc<Destination> {
    let rule = Rule {
        admission,
        ..Rule::default()
    };
    Destinations::new(1).get("a.test", 80, &rule, 1)
}

fn reconfigure(destination: &Destination, admission: policy::Admission, revision: u64) {
    let rule = Rule {
        admission,
        ..Rule::default()
    };
    destination.configure(&rule, revision);
}

fn admission(limit: u32, length: u32) -> policy::Admission {
    policy::Admission {
        limit,
        queue_length: Some(length),
        queue_target: None,
        queue_timeout: Duration::from_secs(1),
    }
}

fn endpoint() -> SocketAddr {
    "10.0.0.7:80".parse().unwrap()
}

fn acquire(destination: &Arc<Destination>, priority: Priority) -> Acquire {
    destination.acquire(endpoint(), priority, None, Mode::Enforce)
}

fn normal(destination: &Arc<Destination>) -> Acquire {
    acquire(destination, Priority::Normal)
}

/// Counts how often it was woken.
#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Atomic::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Atomic::Relaxed)
    }
}

fn poll(acquire: &mut Acquire) -> Poll<Result<Permit, Refusal>> {
    poll_with(acquire, Waker::noop())
}

fn poll_with(acquire: &mut Acquire, waker: &Waker) -> Poll<Result<Permit, Refusal>> {
    Pin::new(acquire).poll(&mut Context::from_waker(waker))
}

fn granted(acquire: &mut Acquire) -> Permit {
    match poll(acquire) {
        Poll::Ready(Ok(permit)) => permit,
        other @ (Poll::Ready(_) | Poll::Pending) => panic!("{other:?}"),
    }
}

fn refused(acquire: &mut Acquire) -> Shed {
    match poll(acquire) {
        Poll::Ready(Err(refusal)) => refusal.shed,
        other @ (Poll::Ready(_) | Poll::Pending) => panic!("{other:?}"),
    }
}

fn answer(status: u16) -> End<'static> {
    let status = http::StatusCode::from_u16(status).unwrap();
    End::Answered(Answer::without_pushback(status, &http::HeaderMap::new()))
}

#[tokio::test(start_paused = true)]
async fn there_is_no_wait_while_there_is_room_and_a_dropped_permit_makes_room() {
    let destination = destination(admission(2, 0));
    let first = normal(&destination).await.unwrap();
    let second = normal(&destination).await.unwrap();
    assert_eq!(first.waited(), Duration::ZERO);
    let refusal = normal(&destination).await.unwrap_err();
    assert_eq!(refusal.shed, Shed::QueueFull);
    assert_eq!(refusal.inputs[0], ("in_flight", 2.0));
    drop(first);
    let _third = normal(&destination).await.unwrap();
    drop(second);
    assert_eq!(destination.admission.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_permit_goes_to_who_waits_and_not_to_who_comes_later() {
    let destination = destination(admission(1, 4));
    let held = normal(&destination).await.unwrap();
    let mut waiting = normal(&destination);
    assert!(poll(&mut waiting).is_pending());
    tokio::time::advance(Duration::from_millis(30)).await;
    drop(held);
    let mut late = normal(&destination);
    assert!(poll(&mut late).is_pending());
    let permit = granted(&mut waiting);
    assert_eq!(permit.waited(), Duration::from_millis(30));
    assert!(permit.waited_long());
}

#[tokio::test(start_paused = true)]
async fn priorities_are_served_in_their_order() {
    let destination = destination(admission(1, 4));
    let held = normal(&destination).await.unwrap();
    let mut low = acquire(&destination, Priority::Sheddable);
    let mut normal = acquire(&destination, Priority::Normal);
    let mut high = acquire(&destination, Priority::Critical);
    for waiting in [&mut low, &mut normal, &mut high] {
        assert!(poll(waiting).is_pending());
    }
    drop(held);
    drop(granted(&mut high));
    drop(granted(&mut normal));
    drop(granted(&mut low));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_the_queue_timeout() {
    let destination = destination(admission(1, 4));
    let _held = normal(&destination).await.unwrap();
    let begun = Instant::now();
    let refusal = normal(&destination).await.unwrap_err();
    assert_eq!(refusal.shed, Shed::QueueTimeout);
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert_eq!(destination.admission.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_the_deadline_if_that_comes_first() {
    let destination = destination(admission(1, 4));
    let _held = normal(&destination).await.unwrap();
    let begun = Instant::now();
    let deadline = Some(begun + Duration::from_millis(300));
    let refusal = destination
        .acquire(endpoint(), Priority::Normal, deadline, Mode::Enforce)
        .await
        .unwrap_err();
    assert_eq!(refusal.shed, Shed::DeadlineUnreachable);
    assert_eq!(begun.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_dispatched_after_its_deadline_even_if_there_is_room() {
    let destination = destination(admission(1, 4));
    let past = Some(Instant::now());
    let mut late = destination.acquire(endpoint(), Priority::Normal, past, Mode::Enforce);
    assert_eq!(refused(&mut late), Shed::DeadlineUnreachable);
    // Nothing is decided for calls that policy does not bind.
    for mode in [Mode::Observe, Mode::Off] {
        let unbound = destination.acquire(endpoint(), Priority::Normal, past, mode);
        drop(unbound.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_that_was_never_polled_holds_nothing() {
    let destination = destination(admission(1, 0));
    drop(normal(&destination));
    let unpolled = normal(&destination);
    drop(normal(&destination).await.unwrap());
    drop(unpolled);
    assert_eq!(destination.admission.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_away_gives_its_place_back() {
    let destination = destination(admission(1, 1));
    let _held = normal(&destination).await.unwrap();
    let mut waiting = normal(&destination);
    assert!(poll(&mut waiting).is_pending());
    drop(waiting);
    assert!(poll(&mut normal(&destination)).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_away_in_the_moment_it_is_served_passes_its_permit_on() {
    let destination = destination(admission(1, 4));
    let held = normal(&destination).await.unwrap();
    let mut gone = normal(&destination);
    let mut next = normal(&destination);
    let wakes = Arc::new(Wakes::default());
    assert!(poll(&mut gone).is_pending());
    assert!(poll_with(&mut next, &Waker::from(Arc::clone(&wakes))).is_pending());
    drop(held);
    assert_eq!((destination.admission.in_flight(), wakes.count()), (1, 0));
    drop(gone);
    assert_eq!((destination.admission.in_flight(), wakes.count()), (1, 1));
    drop(granted(&mut next));
    assert_eq!(destination.admission.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_latest_waker_is_the_one_that_is_woken() {
    let destination = destination(admission(1, 4));
    let held = normal(&destination).await.unwrap();
    let mut waiting = normal(&destination);
    let (old, new) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    assert!(poll_with(&mut waiting, &Waker::from(Arc::clone(&old))).is_pending());
    assert!(poll_with(&mut waiting, &Waker::from(Arc::clone(&new))).is_pending());
    drop(held);
    assert_eq!((old.count(), new.count()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_displaced_call_is_told_at_once() {
    let destination = destination(admission(1, 1));
    let _held = normal(&destination).await.unwrap();
    let mut low = acquire(&destination, Priority::Sheddable);
    let wakes = Arc::new(Wakes::default());
    assert!(poll_with(&mut low, &Waker::from(Arc::clone(&wakes))).is_pending());
    let mut high = acquire(&destination, Priority::Critical);
    assert!(poll(&mut high).is_pending());
    assert_eq!(wakes.count(), 1);
    assert_eq!(refused(&mut low), Shed::Displaced);
    let displaced: Vec<_> = destination
        .counters
        .sheds()
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(displaced, [(Shed::Displaced, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_lets_nobody_in_until_calls_in_flight_are_below_it() {
    let destination = destination(admission(3, 4));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(normal(&destination).await.unwrap());
    }
    let mut waiting = normal(&destination);
    assert!(poll(&mut waiting).is_pending());
    reconfigure(&destination, admission(1, 4), 2);
    drop(held.pop());
    drop(held.pop());
    assert!(poll(&mut waiting).is_pending());
    drop(held.pop());
    drop(granted(&mut waiting));
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_lets_in_everybody_who_waits() {
    let destination = destination(admission(1, 100));
    let _held = normal(&destination).await.unwrap();
    let woken = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut waiting: Vec<_> = (0..50).map(|_| normal(&destination)).collect();
    for waiting in &mut waiting {
        assert!(poll_with(waiting, &waker).is_pending());
    }
    // More than are woken in one go.
    reconfigure(&destination, admission(41, 100), 2);
    assert_eq!(woken.count(), 40);
    assert_eq!(destination.admission.in_flight(), 41);
    let permits: Vec<_> = waiting.iter_mut().take(40).map(granted).collect();
    assert!(poll(&mut waiting[40]).is_pending());
    drop(permits);
    assert_eq!(
        woken.count(),
        49,
        "the one that was polled has another waker"
    );
}

#[tokio::test(start_paused = true)]
async fn observe_decides_and_counts_but_lets_everything_through() {
    let destination = destination(admission(1, 1));
    let mut permits = Vec::new();
    for _ in 0..4 {
        let acquire = destination.acquire(endpoint(), Priority::Normal, None, Mode::Observe);
        permits.push(acquire.await.unwrap());
    }
    let observed = destination.view(Instant::now()).observed;
    assert_eq!((observed["queued"], observed["shed"]), (1, 2));
    assert_eq!(destination.admission.in_flight(), 4);
    // Who is bound by policy sees the destination as full as it is.
    assert!(poll(&mut normal(&destination)).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_standing_queue_refuses_its_oldest_calls_and_stops_retries() {
    let destination = destination(admission(1, 100));
    let held = normal(&destination).await.unwrap();
    for _ in 0..20 {
        held.sample(&answer(200), Duration::from_millis(10), Instant::now());
    }
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut call = normal(&destination);
        assert!(poll(&mut call).is_pending());
        waiting.push(call);
        tokio::time::advance(Duration::from_millis(30)).await;
    }
    let now = Instant::now();
    assert!(destination.is_overloaded(now));
    assert_eq!(destination.state(now), DestinationState::Shedding);
    // The first of them have waited longer than the bound on a burst, 50 ms.
    assert_eq!(destination.view(now).queue_length, 2);
    drop(held);
    drop(granted(&mut waiting[7]));
    assert_eq!(refused(&mut waiting[0]), Shed::QueueStanding);
}

#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_is_probed_by_one_call_at_a_time() {
    let rule = Rule {
        breaker: Some(Breaker {
            consecutive_failures: 2,
            ejection_min: Duration::from_secs(1),
            ejection_max: Duration::from_mins(1),
        }),
        ..Rule::default()
    };
    let destination = Destinations::new(1).get("a.test", 80, &rule, 1);
    let addr = endpoint();
    let error = UpstreamError::Reset {
        addr,
        reason: None,
        detail: String::new(),
    };
    let fail =
        |permit: &Permit| permit.sample(&End::Failed(&error), Duration::ZERO, Instant::now());
    assert_eq!(fail(&normal(&destination).await.unwrap()), None);
    let ejection = fail(&normal(&destination).await.unwrap());
    assert_eq!(ejection, Some(Duration::from_secs(1)));
    assert_eq!(destination.state(Instant::now()), DestinationState::Probing);
    let view = destination.view(Instant::now());
    assert_eq!(view.ejected_endpoints, 1);
    assert_eq!(view.last_error, Some(error.to_string()));
    assert!(view.last_error_at.is_some());

    let refusal = normal(&destination).await.unwrap_err();
    assert_eq!(refusal.shed, Shed::Ejected);
    assert_eq!(refusal.retry_after, Duration::from_secs(1));
    let other: SocketAddr = "10.0.0.8:80".parse().unwrap();
    let elsewhere = destination.acquire(other, Priority::Normal, None, Mode::Enforce);
    drop(elsewhere.await.unwrap());

    tokio::time::advance(Duration::from_secs(1)).await;
    // Nobody is kept away any longer, even if nobody comes to probe.
    assert_eq!(destination.state(Instant::now()), DestinationState::Healthy);
    let probe = normal(&destination).await.unwrap();
    assert_eq!(refused(&mut normal(&destination)), Shed::Ejected);
    drop(probe);
    // It left without an answer: the next one probes.
    let probe = normal(&destination).await.unwrap();
    probe.sample(&answer(200), Duration::from_millis(1), Instant::now());
    drop(normal(&destination).await.unwrap());
    assert_eq!(destination.state(Instant::now()), DestinationState::Healthy);
}

#[tokio::test(start_paused = true)]
async fn the_state_names_the_gravest_thing_going_on() {
    let destination = destination(admission(1, 4));
    let state = |destination: &Destination| destination.state(Instant::now());
    assert_eq!(state(&destination), DestinationState::Healthy);
    let _held = normal(&destination).await.unwrap();
    let mut waiting = normal(&destination);
    assert!(poll(&mut waiting).is_pending());
    assert_eq!(state(&destination), DestinationState::Queueing);
    destination.budget.withdraw(3, Instant::now()).unwrap();
    assert_eq!(state(&destination), DestinationState::Exhausted);
    reconfigure(&destination, admission(1, 0), 2);
    assert_eq!(refused(&mut normal(&destination)), Shed::QueueFull);
    assert_eq!(state(&destination), DestinationState::Shedding);
}

#[test]
fn a_permit_and_a_wait_may_move_between_threads_and_are_small() {
    fn is_send<T: Send>() {}
    is_send::<Acquire>();
    is_send::<Permit>();
    assert!(size_of::<Acquire>() <= 192, "{}", size_of::<Acquire>());
    assert!(size_of::<Permit>() <= 128, "{}", size_of::<Permit>());
}

#[tokio::test(start_paused = true)]
async fn breakers_of_addresses_that_are_gone_make_room() {
    let rule = Rule {
        breaker: Some(Breaker {
            consecutive_failures: 1,
            ejection_min: Duration::from_secs(1),
            ejection_max: Duration::from_secs(1),
        }),
        ..Rule::default()
    };
    let destination = Destinations::new(1).get("a.test", 80, &rule, 1);
    for round in 0..3_u8 {
        for last in 0..=255 {
            let addr = SocketAddr::from(([10, 0, round, last], 80));
            let acquire = destination.acquire(addr, Priority::Normal, None, Mode::Enforce);
            let after = Duration::from_secs(1);
            let error = UpstreamError::ConnectTimeout { addr, after };
            let permit = acquire.await.unwrap();
            let ejection = permit.sample(&End::Failed(&error), after, Instant::now());
            assert_eq!(ejection, Some(Duration::from_secs(1)), "{addr}");
        }
        assert_eq!(destination.endpoints.troubled(Instant::now()).len(), 256);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}
