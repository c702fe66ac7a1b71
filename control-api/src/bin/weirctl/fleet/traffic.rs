//! How calls ended, as a pod's proxy counts them: destination by destination, and from one look to the next.

use std::collections::BTreeMap;

use control_api::view::Destination;

/// Calls that ended, by what became of them. Those that the application gave up are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    /// Server errors, no connection, no answer in time.
    pub(super) errors: u64,
    /// Refused by weir.
    pub(super) sheds: u64,
}

impl Counts {
    fn of(destination: &Destination) -> Self {
        let outcomes = &destination.outcomes;
        let of = |outcome| outcomes.get(outcome).copied().unwrap_or(0);
        Self {
            calls: outcomes.values().sum::<u64>() - of("cancelled"),
            errors: destination.errors(),
            sheds: of("shed"),
        }
    }

    /// What came since `earlier`; a counter that is lower than it was began again.
    fn since(self, earlier: Self) -> Self {
        if self.calls < earlier.calls {
            return self;
        }
        Self {
            calls: self.calls - earlier.calls,
            errors: self.errors.saturating_sub(earlier.errors),
            sheds: self.sheds.saturating_sub(earlier.sheds),
        }
    }

    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.errors = self.errors.saturating_add(other.errors);
        self.sheds = self.sheds.saturating_add(other.sheds);
    }
}

/// The counts of destinations, each by its name and the route that has a state of its own there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Traffic(BTreeMap<(String, Option<String>), Counts>);

impl Traffic {
    /// What a proxy has counted since it started.
    pub(super) fn of(destinations: &[Destination]) -> Self {
        let counted = destinations.iter().map(|destination| {
            let scope = destination.scope.clone();
            let suffix = scope.as_ref().map(|scope| format!("/{scope}"));
            let name = suffix
                .and_then(|suffix| destination.name.strip_suffix(&suffix))
                .unwrap_or(&destination.name);
            ((name.to_owned(), scope), Counts::of(destination))
        });
        Self(counted.collect())
    }

    /// What came since `earlier`, of the same proxy.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let changed = self.0.iter().map(|(key, now)| {
            let before = earlier.0.get(key).copied().unwrap_or_default();
            (key.clone(), now.since(before))
        });
        Self(changed.collect())
    }

    /// Adds what another proxy counted.
    pub(super) fn add(&mut self, other: &Self) {
        for (key, counts) in &other.0 {
            self.0.entry(key.clone()).or_default().add(*counts);
        }
    }

    /// Destination by destination: a new policy may give a route a state of its own, or take it.
    pub(super) fn by_destination(&self) -> BTreeMap<&str, Counts> {
        let mut destinations = BTreeMap::<&str, Counts>::new();
        for ((name, _), counts) in &self.0 {
            destinations.entry(name).or_default().add(*counts);
        }
        destinations
    }

    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::default();
        for counts in self.0.values() {
            total.add(*counts);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(name: &str, scope: Option<&str>, outcomes: &[(&str, u64)]) -> Destination {
        let outcomes = outcomes.iter();
        Destination {
            name: name.to_owned(),
            scope: scope.map(str::to_owned),
            outcomes: outcomes
                .map(|(what, count)| ((*what).to_owned(), *count))
                .collect(),
            ..Destination::default()
        }
    }

    #[test]
    fn calls_that_the_application_gave_up_say_nothing() {
        let outcomes = [
            ("answered", 5),
            ("failed", 1),
            ("unreachable", 2),
            ("timed_out", 3),
        ];
        let mut all = outcomes.to_vec();
        all.extend([("shed", 4), ("cancelled", 9)]);
        let counts = Traffic::of(&[destination("a:80", None, &all)]).total();
        assert_eq!((counts.calls, counts.errors, counts.sheds), (15, 6, 4));
    }

    #[test]
    fn a_counter_that_began_again_counts_from_nothing() {
        let before = Traffic::of(&[destination("a:80", None, &[("answered", 100)])]);
        let after = [
            destination("a:80", None, &[("answered", 3), ("failed", 1)]),
            destination("b:80", None, &[("answered", 2)]),
        ];
        let since = Traffic::of(&after).since(&before);
        assert_eq!(since.by_destination()["a:80"].calls, 4);
        assert_eq!(since.total().calls, 6);
    }

    #[test]
    fn routes_with_a_state_of_their_own_count_with_their_destination() {
        let traffic = Traffic::of(&[
            destination("a:80", None, &[("answered", 1)]),
            destination("a:80/pay", Some("pay"), &[("failed", 2)]),
        ]);
        let counts = traffic.by_destination()["a:80"];
        assert_eq!((counts.calls, counts.errors), (3, 2));
    }
}
