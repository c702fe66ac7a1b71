//! The budget's balance and the time of its last leak, in one atomic word.
//!
//! Upper half: milliseconds on the budget's clock. Lower half: thousandths of a retry. Every change is one
//! compare-and-swap loop over a pure function of the word, so a withdrawal can never take what another thread took.
//! This file is compiled twice: against the standard atomics, and in the tests against loom's, which tries every
//! interleaving; hence it takes its atomics from its parent.

use super::LEAK;
use super::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Tokens {
    word: AtomicU64,
}

impl Tokens {
    pub(super) fn new(milli: u32) -> Self {
        Self {
            word: AtomicU64::new(join(0, milli)),
        }
    }

    /// Adds `milli`; above `burst` the balance leaks.
    pub(super) fn deposit(&self, milli: u32, burst: u32, clock: u32) {
        self.update(|word| {
            let (at, balance) = leaked(word, burst, clock);
            Some(join(at, balance.saturating_add(milli)))
        });
    }

    /// Takes `milli`, or nothing and says false.
    pub(super) fn withdraw(&self, milli: u32, burst: u32, clock: u32) -> bool {
        self.update(|word| {
            let (at, balance) = leaked(word, burst, clock);
            Some(join(at, balance.checked_sub(milli)?))
        })
    }

    pub(super) fn balance(&self, burst: u32, clock: u32) -> u32 {
        leaked(self.word.load(Ordering::Relaxed), burst, clock).1
    }

    /// Moves the balance by `milli`, not below nothing.
    pub(super) fn shift(&self, milli: i64) {
        self.update(|word| {
            let (at, balance) = split(word);
            let moved = i64::from(balance).saturating_add(milli).max(0);
            Some(join(at, u32::try_from(moved).unwrap_or(u32::MAX)))
        });
    }

    // Relaxed is enough: the word guards nothing but itself.
    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        self.word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
            .is_ok()
    }
}

/// Time of the last leak and balance, after what leaked since.
fn leaked(word: u64, burst: u32, clock: u32) -> (u32, u32) {
    let (at, balance) = split(word);
    let elapsed = clock.wrapping_sub(at);
    // Another thread may have been here with a clock that is a little later: no time has passed.
    if elapsed > u32::MAX - AHEAD_MS_MAX {
        return (at, balance);
    }
    let Some(above) = balance.checked_sub(burst).filter(|above| *above > 0) else {
        return (clock, balance);
    };
    // Many small leaks would each lose a fraction to rounding.
    if elapsed < LEAK_STEP_MS {
        return (at, balance);
    }
    let time_constant = u64::try_from(LEAK.as_millis()).unwrap_or(u64::MAX);
    let share = u64::from(balance) * u64::from(elapsed).min(time_constant) / time_constant;
    let leak = u32::try_from(share).unwrap_or(u32::MAX).min(above);
    (clock, balance - leak)
}

fn join(at: u32, balance: u32) -> u64 {
    (u64::from(at) << 32) | u64::from(balance)
}

fn split(word: u64) -> (u32, u32) {
    super::unpack(word)
}

const LEAK_STEP_MS: u32 = 20;
/// Most milliseconds that one thread's clock reading can be ahead of another's: a minute is far more than any pause
/// between reading the clock and writing the word. All longer differences are time that has passed, up to 49 days of it.
const AHEAD_MS_MAX: u32 = 60_000;
