//! Decides which traces are exported.
//!
//! A caller that decided is obeyed. For a root, the trace id itself decides, as OpenTelemetry's `TraceIdRatioBased` does,
//! so that every service with the same ratio comes to the same answer.

use super::record::{Sampling, TraceId};

/// Which traces are exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Whether the flag of the caller's context is obeyed.
    pub parent: Parent,
    /// What decides where no caller did.
    pub root: Root,
}

/// Whether the caller's sampled flag is obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// It is: `parentbased_...`.
    Obeyed,
    /// It is not.
    Ignored,
}

/// How a root is sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Root {
    /// Always.
    On,
    /// Never, not even when it ends badly.
    Off,
    /// This share of all traces, 0 to 1, and those that end badly.
    Ratio(f64),
}

/// The share of roots that is exported when nothing else is said.
///
/// One in a hundred shows a service's shape; what goes wrong is exported anyway.
pub const RATIO_DEFAULT: f64 = 0.01;

impl Default for Sampler {
    fn default() -> Self {
        Self {
            parent: Parent::Obeyed,
            root: Root::Ratio(RATIO_DEFAULT),
        }
    }
}

impl Sampler {
    /// Whether the trace is exported; `parent` is the sampled flag of the caller's context, where there is one.
    #[must_use]
    pub fn sample(&self, parent: Option<bool>, trace_id: &TraceId) -> Sampling {
        match (self.parent, parent) {
            (Parent::Obeyed, Some(true)) => Sampling::Sampled,
            (Parent::Obeyed, Some(false)) => Sampling::CallerDeclined,
            (Parent::Obeyed, None) | (Parent::Ignored, _) => self.root.sample(trace_id),
        }
    }
}

impl Root {
    fn sample(self, trace_id: &TraceId) -> Sampling {
        match self {
            Self::On => Sampling::Sampled,
            Self::Off => Sampling::CallerDeclined,
            Self::Ratio(ratio) if drawn(trace_id) < ratio => Sampling::Sampled,
            Self::Ratio(_) => Sampling::PassedOver,
        }
    }
}

/// A number in 0..1 that depends on nothing but the trace id's last 63 bits.
#[allow(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "53 of 63 bits are far more than a ratio needs"
)]
fn drawn(trace_id: &TraceId) -> f64 {
    let (_, low) = trace_id.split_at(8);
    let low = low
        .iter()
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    (low >> 1) as f64 / (1_u64 << 63) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_decided_is_obeyed() {
        let sampler = Sampler::default();
        assert_eq!(sampler.sample(Some(true), &[255; 16]), Sampling::Sampled);
        assert_eq!(
            sampler.sample(Some(false), &[1; 16]),
            Sampling::CallerDeclined
        );
    }

    #[test]
    fn a_sampler_without_parents_ignores_the_caller() {
        let sampler = Sampler {
            parent: Parent::Ignored,
            root: Root::On,
        };
        assert_eq!(sampler.sample(Some(false), &[1; 16]), Sampling::Sampled);
    }

    #[test]
    fn the_ratio_is_kept_over_many_traces() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let sampler = Sampler {
            parent: Parent::Obeyed,
            root: Root::Ratio(0.1),
        };
        let chosen = (0..100_000)
            .filter(|_| {
                let id = random.u128(..).to_be_bytes();
                sampler.sample(None, &id) == Sampling::Sampled
            })
            .count();
        assert!(
            (9_000..11_000).contains(&chosen),
            "{chosen} with seed {seed}"
        );
    }

    #[test]
    fn ratios_of_zero_and_one_are_exact() {
        let of = |ratio| Root::Ratio(ratio);
        assert_eq!(of(0.0).sample(&[0; 16]), Sampling::PassedOver);
        assert_eq!(of(1.0).sample(&[255; 16]), Sampling::PassedOver);
    }
}
