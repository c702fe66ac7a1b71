//! Whether calls end worse than before.
//!
//! A share of calls (errors, or sheds) has risen only if all of this is so, for a destination or for all together:
//! there were [`CALLS_MIN`] calls before and as many after; the share is [`RISE_MIN`] higher, and [`RATIO_MIN`] times as
//! high; and the difference is [`SIGMAS_MIN`] times what chance makes of it (two-proportion z-test, pooled).

use std::fmt;

use super::traffic::{Counts, Traffic};

/// Fewest calls, before and after, that say anything: with fewer, one failed call is a rise of two points.
pub(super) const CALLS_MIN: u64 = 50;
/// Least rise that matters to anybody, as a part of all calls.
pub(super) const RISE_MIN: f64 = 0.02;
/// Least rise beside what was there before: a destination that fails half its calls does so by 45 % or by 55 %.
pub(super) const RATIO_MIN: f64 = 1.5;
/// Standard errors. Chance alone is three away once in 700 comparisons, and some dozens are made in a push.
pub(super) const SIGMAS_MIN: f64 = 3.0;

/// What comparing showed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// Nothing rose.
    Steady,
    /// There were too few calls to tell, before or after; with how many there were.
    TooFew { before: u64, after: u64 },
    /// More calls end badly.
    Risen(Rise),
}

/// A share of calls that has risen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rise {
    /// `errors` or `sheds`.
    what: &'static str,
    /// None: all together.
    destination: Option<String>,
    before: f64,
    after: f64,
    calls: u64,
}

impl fmt::Display for Rise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, calls, .. } = self;
        let destination = self
            .destination
            .as_deref()
            .unwrap_or("all destinations together");
        let (before, after) = (self.before * 100.0, self.after * 100.0);
        write!(
            f,
            "{what} of {destination} rose from {before:.1}% to {after:.1}% of {calls} calls"
        )
    }
}

/// Compares how calls ended before and after; of several rises, the largest.
pub(super) fn judge(before: &Traffic, after: &Traffic) -> Verdict {
    let (all_before, all_after) = (before.total(), after.total());
    let earlier = before.by_destination();
    let later = after.by_destination();
    let pairs = later.iter().map(|(name, after)| {
        let before = earlier.get(name).copied().unwrap_or_default();
        (Some(*name), before, *after)
    });
    // Of equal rises the last is told: rather one destination than all.
    let pairs: Vec<_> = [(None, all_before, all_after)]
        .into_iter()
        .chain(pairs)
        .collect();
    let is_enough = |counts: &Counts| counts.calls >= CALLS_MIN;
    if !pairs
        .iter()
        .any(|(_, before, after)| is_enough(before) && is_enough(after))
    {
        let (before, after) = (all_before.calls, all_after.calls);
        return Verdict::TooFew { before, after };
    }
    let rises = pairs.iter().flat_map(|(name, before, after)| {
        let rise = |what, bad_before, bad_after| {
            let rise = Rise {
                what,
                destination: name.map(str::to_owned),
                before: share(bad_before, before.calls),
                after: share(bad_after, after.calls),
                calls: after.calls,
            };
            let comparable = is_enough(before) && is_enough(after);
            (comparable && rise.is_real(before.calls)).then_some(rise)
        };
        let errors = rise("errors", before.errors, after.errors);
        errors
            .into_iter()
            .chain(rise("sheds", before.sheds, after.sheds))
    });
    let size = |rise: &Rise| rise.after - rise.before;
    match rises.max_by(|one, other| size(one).total_cmp(&size(other))) {
        Some(rise) => Verdict::Risen(rise),
        None => Verdict::Steady,
    }
}

impl Rise {
    fn is_real(&self, calls_before: u64) -> bool {
        let rise = self.after - self.before;
        let (n, m) = (number(calls_before), number(self.calls));
        let pooled = (self.before * n + self.after * m) / (n + m);
        let chance = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
        rise >= RISE_MIN && self.after >= RATIO_MIN * self.before && rise >= SIGMAS_MIN * chance
    }
}

fn share(bad: u64, calls: u64) -> f64 {
    if calls == 0 {
        0.0
    } else {
        number(bad) / number(calls)
    }
}

/// A count of calls within minutes.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use control_api::view::Destination;
    use proptest::prelude::*;

    use super::*;

    fn traffic(destinations: &[(&str, u64, u64, u64)]) -> Traffic {
        let destinations = destinations
            .iter()
            .map(|(name, answered, failed, shed)| Destination {
                name: (*name).to_owned(),
                outcomes: [
                    ("answered", *answered),
                    ("failed", *failed),
                    ("shed", *shed),
                ]
                .map(|(what, count)| (what.to_owned(), count))
                .into(),
                ..Destination::default()
            });
        Traffic::of(&destinations.collect::<Vec<_>>())
    }

    fn words(before: &[(&str, u64, u64, u64)], after: &[(&str, u64, u64, u64)]) -> String {
        match judge(&traffic(before), &traffic(after)) {
            Verdict::Steady => "steady".to_owned(),
            Verdict::TooFew { before, after } => format!("too few: {before}, {after}"),
            Verdict::Risen(rise) => rise.to_string(),
        }
    }

    #[test]
    fn the_documented_numbers_are_these() {
        let documented = include_str!("../../../../../k8s/README.md");
        let points = RISE_MIN * 100.0;
        for text in [
            format!("at least {CALLS_MIN} calls before and {CALLS_MIN} after"),
            format!("{points} points higher and {RATIO_MIN} times as high"),
            format!("{SIGMAS_MIN} standard errors"),
        ] {
            assert!(
                documented.contains(&text),
                "k8s/README.md does not say: {text}"
            );
        }
    }

    #[test]
    fn a_rise_of_errors_or_sheds_is_seen() {
        assert_eq!(
            words(&[("a:80", 100, 0, 0)], &[("a:80", 80, 20, 0)]),
            "errors of a:80 rose from 0.0% to 20.0% of 100 calls"
        );
        assert_eq!(
            words(&[("a:80", 99, 1, 0)], &[("a:80", 150, 2, 48)]),
            "sheds of a:80 rose from 0.0% to 24.0% of 200 calls"
        );
    }

    #[test]
    fn one_small_destination_that_fails_is_seen_beside_a_large_one() {
        let before = [("big:80", 100_000, 0, 0), ("small:80", 60, 0, 0)];
        let after = [("big:80", 100_000, 0, 0), ("small:80", 0, 60, 0)];
        assert_eq!(
            words(&before, &after),
            "errors of small:80 rose from 0.0% to 100.0% of 60 calls"
        );
    }

    #[test]
    fn many_small_destinations_are_seen_together() {
        let names: Vec<String> = (0..20).map(|number| format!("{number}:80")).collect();
        let before: Vec<_> = names.iter().map(|name| (name.as_str(), 10, 0, 0)).collect();
        let after: Vec<_> = names.iter().map(|name| (name.as_str(), 5, 5, 0)).collect();
        assert_eq!(
            words(&before, &after),
            "errors of all destinations together rose from 0.0% to 50.0% of 200 calls"
        );
    }

    #[test]
    fn what_may_be_chance_is_no_rise() {
        // Too little to matter, however certain it is.
        let (before, after) = ([("a:80", 1_000_000, 0, 0)], [("a:80", 990_000, 10_000, 0)]);
        assert_eq!(words(&before, &after), "steady");
        // Too little beside what was there.
        let (before, after) = ([("a:80", 6_000, 4_000, 0)], [("a:80", 5_000, 5_000, 0)]);
        assert_eq!(words(&before, &after), "steady");
        // Too few to be certain.
        assert_eq!(
            words(&[("a:80", 50, 0, 0)], &[("a:80", 48, 2, 0)]),
            "steady"
        );
    }

    #[test]
    fn too_few_calls_say_nothing() {
        assert_eq!(
            words(&[("a:80", 49, 0, 0)], &[("a:80", 0, 90, 0)]),
            "too few: 49, 90"
        );
        assert_eq!(
            words(&[("a:80", 90, 0, 0)], &[("a:80", 0, 49, 0)]),
            "too few: 90, 49"
        );
        assert_eq!(words(&[], &[]), "too few: 0, 0");
        // A destination that nobody called before has nothing to be compared with.
        let (before, after) = (
            [("a:80", 90, 0, 0)],
            [("a:80", 90, 0, 0), ("b:80", 0, 3, 0)],
        );
        assert_eq!(words(&before, &after), "steady");
    }

    proptest! {
        #[test]
        fn what_ends_no_worse_has_never_risen(
            calls in 0_u64..5000, errors in 0_u64..5000, fewer in 0_u64..5000, more_calls in 0_u64..5000,
        ) {
            let before = traffic(&[("a:80", calls, errors, errors)]);
            let fewer = errors.saturating_sub(fewer);
            let after = traffic(&[("a:80", calls + more_calls, fewer, fewer)]);
            let risen = matches!(judge(&before, &after), Verdict::Risen(_));
            prop_assert!(!risen);
        }

        #[test]
        fn a_total_failure_of_enough_calls_is_always_seen(before in 50_u64..5000, after in 50_u64..5000) {
            let verdict = judge(&traffic(&[("a:80", before, 0, 0)]), &traffic(&[("a:80", 0, after, 0)]));
            prop_assert!(matches!(verdict, Verdict::Risen(_)));
        }
    }
}
