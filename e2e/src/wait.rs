//! Bounded waiting for something that happens in another process.

use std::time::Duration;

use tokio::time::Instant;

/// Polls `probe` every few milliseconds until it answers, at most `within`.
///
/// # Panics
/// When the time is over; `what` says what did not happen.
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {within:?} for {what}");
        std::thread::sleep(STEP);
    }
}

/// As [`until`], for a condition.
pub fn until_true(what: &str, within: Duration, mut probe: impl FnMut() -> bool) {
    until(what, within, || probe().then_some(()));
}

/// As [`until_true`], letting the tasks of the current runtime go on between two looks.
pub async fn until_async(what: &str, within: Duration, mut probe: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !probe() {
        assert!(Instant::now() < end, "waited {within:?} for {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// Time between two looks.
pub const STEP: Duration = Duration::from_millis(5);

/// A timeout that no healthy machine reaches: tests that wait this long have failed.
pub const LONG: Duration = Duration::from_secs(20);
