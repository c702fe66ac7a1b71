//! The pure cores of overload control: no IO, no clock; `now` is an argument.
//!
//! [`destination`](crate::destination) holds one of each per destination, gives them the time and wakes who waits:
//!
//! ```text
//! how many at a time   limiter      who is next, who is refused   queue (+ throughput, for its estimates)
//! whether to repeat    classify     how many repeats              budget      when      backoff
//! how long answers take  sketch     how long to wait for one      timeout     where not to go   breaker
//! ```

pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod classify;
pub mod limiter;
pub mod queue;
pub mod sketch;
pub mod throughput;
pub mod timeout;

#[cfg(test)]
mod simulation;

pub use backoff::Backoff;
pub use breaker::Breaker;
pub use budget::{Budget, BudgetExhausted};
pub use limiter::{Limiter, Load, Sample, SampleOutcome};
pub use queue::{Estimates, Event, Queue, Ticket};
pub use sketch::{Sketch, Summary};
