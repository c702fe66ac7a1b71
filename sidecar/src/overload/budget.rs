//! Bounds retries by what succeeds.
//!
//! Every success of a first attempt deposits `ratio` of a retry; a retry withdraws its cost when it is *decided*, before
//! its backoff, so that calls that fail together cannot all pass. A destination that answers nothing deposits nothing:
//! a total outage spends the balance once, and then retries stop until successes return.
//!
//! The balance starts at `burst` and never exceeds `max(burst, ratio * 2 s * successes per second)` by much: above the
//! burst it leaks with a time constant of two seconds, which is that bound without anybody measuring the rate. At or
//! below the burst nothing leaks, so that a pod with one call a second still holds a retry when it needs one.
//!
//! Balance and time stand in one atomic word (see [`tokens`]): no lock, and no thread can overdraw it.

mod tokens;

use std::sync::atomic::{self, AtomicU64};
use std::time::Duration;

use control_api::policy;
use tokio::time::Instant;

use tokens::Tokens;

/// A destination's retry budget.
#[derive(Debug)]
pub struct Budget {
    tokens: Tokens,
    // Ratio in the upper half, burst in the lower one, both in thousandths of a retry: read as one.
    setting: AtomicU64,
    since: Instant,
}

/// The balance is below the cost of the retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the retry budget is exhausted")]
pub struct BudgetExhausted;

impl Budget {
    /// A budget that holds its burst.
    #[must_use]
    pub fn new(setting: policy::Budget, now: Instant) -> Self {
        Self {
            tokens: Tokens::new(burst_milli(setting)),
            setting: AtomicU64::new(pack(setting)),
            since: now,
        }
    }

    /// A first attempt succeeded.
    pub fn deposit(&self, now: Instant) {
        let (ratio, burst) = self.setting();
        self.tokens.deposit(ratio, burst, self.clock(now));
    }

    /// Takes the cost of one retry, in whole retries.
    ///
    /// # Errors
    /// [`BudgetExhausted`] if the balance is below the cost; it is then unchanged.
    pub fn withdraw(&self, cost: u32, now: Instant) -> Result<(), BudgetExhausted> {
        let (_, burst) = self.setting();
        let milli = cost.saturating_mul(MILLI);
        if self.tokens.withdraw(milli, burst, self.clock(now)) {
            Ok(())
        } else {
            Err(BudgetExhausted)
        }
    }

    /// Retries that could be made now, in thousandths.
    #[must_use]
    pub fn balance_milli(&self, now: Instant) -> u32 {
        let (_, burst) = self.setting();
        self.tokens.balance(burst, self.clock(now))
    }

    /// Takes a new setting. The balance moves with the burst, so that raising and lowering it again gives nothing away.
    pub fn configure(&self, setting: policy::Budget) {
        let before = unpack(self.setting.swap(pack(setting), atomic::Ordering::Relaxed));
        self.tokens
            .shift(i64::from(burst_milli(setting)) - i64::from(before.1));
    }

    fn setting(&self) -> (u32, u32) {
        unpack(self.setting.load(atomic::Ordering::Relaxed))
    }

    /// Milliseconds since the budget was made. Wraps after 49 days: a leak is then put off once, nothing more.
    fn clock(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.since).as_millis();
        u32::try_from(elapsed & u128::from(u32::MAX)).unwrap_or(u32::MAX)
    }
}

fn pack(setting: policy::Budget) -> u64 {
    (u64::from(setting.ratio_milli) << 32) | u64::from(burst_milli(setting))
}

fn unpack(packed: u64) -> (u32, u32) {
    let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (half(packed >> 32), half(packed))
}

fn burst_milli(setting: policy::Budget) -> u32 {
    setting.burst.saturating_mul(MILLI)
}

/// A retry in the balance's unit.
const MILLI: u32 = 1000;

/// Time constant of the leak above the burst.
const LEAK: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
#[cfg(test)]
mod under_loom;
