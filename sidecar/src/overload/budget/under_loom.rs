//! The budget's word, compiled against loom's atomics: every interleaving of its users is tried.

use loom::sync::{Arc, atomic};
use loom::thread;

use super::{LEAK, unpack};

#[path = "tokens.rs"]
#[allow(
    clippy::duplicate_mod,
    reason = "the point: one source, two kinds of atomics"
)]
#[allow(dead_code, reason = "the models use only what threads race on")]
mod tokens;

use tokens::Tokens;

#[test]
fn loom_two_withdrawals_cannot_both_take_the_last_retry() {
    loom::model(|| {
        let tokens = Arc::new(Tokens::new(1000));
        let other = Arc::clone(&tokens);
        let thread = thread::spawn(move || other.withdraw(1000, 3000, 1));
        let mine = tokens.withdraw(1000, 3000, 2);
        let theirs = thread.join().unwrap();
        assert!(mine ^ theirs, "exactly one gets it");
        assert_eq!(tokens.balance(3000, 2), 0);
    });
}

#[test]
fn loom_nothing_is_lost_between_deposits_and_withdrawals() {
    loom::model(|| {
        let tokens = Arc::new(Tokens::new(900));
        let depositor = Arc::clone(&tokens);
        let withdrawer = Arc::clone(&tokens);
        let deposit = thread::spawn(move || depositor.deposit(100, 3000, 1));
        let withdrawal = thread::spawn(move || withdrawer.withdraw(1000, 3000, 1));
        let mine = tokens.withdraw(1000, 3000, 1);
        deposit.join().unwrap();
        let theirs = withdrawal.join().unwrap();
        assert!(!(mine && theirs));
        let spent = 1000 * (u32::from(mine) + u32::from(theirs));
        assert_eq!(tokens.balance(3000, 1) + spent, 1000);
    });
}

#[test]
fn loom_a_leak_is_taken_once() {
    loom::model(|| {
        // 5,000 over a burst of 3,000: one second leaks half of the balance, down to the burst.
        let tokens = Arc::new(Tokens::new(8000));
        let other = Arc::clone(&tokens);
        let thread = thread::spawn(move || other.withdraw(1000, 3000, 1000));
        assert!(tokens.withdraw(1000, 3000, 1000));
        assert!(thread.join().unwrap());
        assert_eq!(tokens.balance(3000, 1000), 2000);
    });
}
