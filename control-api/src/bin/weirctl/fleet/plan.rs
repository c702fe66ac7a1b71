//! Which pods are pushed when: the canary first, then batch by batch.

use std::ops::Range;
use std::str::FromStr;

/// A part of the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// So many.
    Pods(usize),
    /// So many of a hundred.
    Percent(usize),
}

impl Share {
    /// How many of `total` these are: percentages are rounded down, but one pod is the least.
    pub(super) fn of(self, total: usize) -> usize {
        let wanted = match self {
            Self::Pods(pods) => pods,
            Self::Percent(percent) => total.saturating_mul(percent) / 100,
        };
        wanted.clamp(1, total.max(1))
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.strip_suffix('%') {
            Some(number) => number
                .parse()
                .ok()
                .filter(|percent| *percent <= 100)
                .map(Self::Percent),
            None => text.parse().ok().map(Self::Pods),
        };
        let is_some = |share: &Self| !matches!(share, Self::Pods(0) | Self::Percent(0));
        parsed.filter(is_some).ok_or_else(|| {
            "expected a number of pods from 1, or a percentage such as 10%".to_owned()
        })
    }
}

/// The places of `total` pods, batch by batch.
pub(super) fn batches(
    total: usize,
    canary: Option<Share>,
    max_unavailable: Option<Share>,
) -> Vec<Range<usize>> {
    let first = canary.map_or(0, |share| share.of(total)).min(total);
    let size = max_unavailable
        .map_or(total, |share| share.of(total))
        .max(1);
    let rest = (first..total).step_by(size);
    let rest = rest.map(|start| start..start.saturating_add(size).min(total));
    let canary = (first > 0).then_some(0..first);
    canary.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_is_a_number_or_a_percentage_and_never_nothing() {
        assert_eq!("3".parse(), Ok(Share::Pods(3)));
        assert_eq!("10%".parse(), Ok(Share::Percent(10)));
        for wrong in ["0", "0%", "101%", "-1", "x", "", "%", "1.5"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
        assert_eq!(Share::Percent(10).of(3), 1);
        assert_eq!(Share::Percent(10).of(25), 2);
        assert_eq!(Share::Percent(100).of(25), 25);
        assert_eq!(Share::Pods(9).of(4), 4);
    }

    #[test]
    fn the_canary_comes_first_and_the_others_in_batches() {
        let plan = batches(10, Some(Share::Percent(20)), Some(Share::Pods(3)));
        assert_eq!(plan, [0..2, 2..5, 5..8, 8..10]);
        let sizes = |plan: Vec<Range<usize>>| plan.iter().map(Range::len).collect::<Vec<_>>();
        assert_eq!(sizes(batches(4, None, None)), [4]);
        assert_eq!(batches(4, Some(Share::Pods(1)), None), [0..1, 1..4]);
        assert_eq!(sizes(batches(1, Some(Share::Pods(1)), None)), [1]);
        assert!(batches(0, Some(Share::Pods(1)), None).is_empty());
    }

    fn share() -> impl Strategy<Value = Option<Share>> {
        prop_oneof![
            Just(None),
            (1_usize..300).prop_map(|pods| Some(Share::Pods(pods))),
            (1_usize..=100).prop_map(|percent| Some(Share::Percent(percent))),
        ]
    }

    proptest! {
        #[test]
        fn every_pod_is_in_one_batch_and_none_is_too_large(
            total in 0_usize..250, canary in share(), max_unavailable in share(),
        ) {
            let plan = batches(total, canary, max_unavailable);
            let all: Vec<usize> = plan.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..total).collect::<Vec<_>>());
            prop_assert!(plan.iter().all(|batch| !batch.is_empty()));
            let mut rest = plan.iter();
            if let (Some(canary), true) = (canary, total > 0) {
                prop_assert_eq!(rest.next().map(Range::len), Some(canary.of(total)));
            }
            if let Some(most) = max_unavailable {
                prop_assert!(rest.all(|batch| batch.len() <= most.of(total)));
            }
        }
    }
}
