//! All destinations of this proxy: a bounded table, shared by the workers.
//!
//! When it is full, the destination that was used least recently and has nothing going on makes room. When all have
//! something going on, newcomers share one destination named `other`: an application that calls ever new hosts is held
//! back as a whole, and weir's memory stays bounded.

use std::hash::BuildHasher as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use control_api::policy::Rule;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use tokio::time::Instant;

use super::{Destination, lock};
use crate::memory::Memory;

/// The destinations that are known.
#[derive(Debug)]
pub struct Destinations {
    max: usize,
    hasher: RandomState,
    memory: Arc<Memory>,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    table: HashTable<Arc<Destination>>,
    other: Option<Arc<Destination>>,
    // Counts lookups: the table's clock.
    lookups: u64,
}

/// What tells destinations apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) scope: Option<&'a str>,
}

impl Destinations {
    /// A table of at most `max` destinations, and `other`.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max,
            hasher: RandomState::default(),
            memory: Arc::default(),
            shared: Mutex::default(),
        }
    }

    /// The same table, whose destinations take no further calls while `memory` is short.
    #[must_use]
    pub fn within(self, memory: Arc<Memory>) -> Self {
        Self { memory, ..self }
    }

    /// The destination of a call. It obeys `rule` from now on, if `revision` is newer than what it obeyed before.
    ///
    /// `host` is in lower case and without its port. Finding one that is known takes one short lock and allocates
    /// nothing.
    #[must_use]
    pub fn get(&self, host: &str, port: u16, rule: &Rule, revision: u64) -> Arc<Destination> {
        let scope = rule.scope.as_deref();
        let destination = self.find_or_make(Key { host, port, scope }, rule, revision);
        destination.configure(rule, revision);
        destination
    }

    /// All that are known.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Destination>> {
        let shared = lock(&self.shared);
        shared.table.iter().chain(&shared.other).cloned().collect()
    }

    fn find_or_make(&self, key: Key<'_>, rule: &Rule, revision: u64) -> Arc<Destination> {
        let hash = self.hasher.hash_one(key);
        let mut shared = lock(&self.shared);
        shared.lookups += 1;
        let lookups = shared.lookups;
        if let Some(found) = shared.table.find(hash, |known| known.key() == key) {
            found.used.store(lookups, Ordering::Relaxed);
            return Arc::clone(found);
        }
        if shared.table.len() >= self.max && !self.make_room(&mut shared) {
            let other = shared
                .other
                .get_or_insert_with(|| Arc::new(self.make(OTHER_KEY, rule, revision)));
            return Arc::clone(other);
        }
        let made = Arc::new(self.make(key, rule, revision));
        made.used.store(lookups, Ordering::Relaxed);
        let rehash = |known: &Arc<Destination>| self.hasher.hash_one(known.key());
        shared.table.insert_unique(hash, Arc::clone(&made), rehash);
        made
    }

    fn make(&self, key: Key<'_>, rule: &Rule, revision: u64) -> Destination {
        Destination::new(key, rule, revision, &self.memory, Instant::now())
    }

    /// Forgets the idle destination that was used least recently. False: none is idle.
    fn make_room(&self, shared: &mut Shared) -> bool {
        // Nobody but the table holds an idle one, and nobody can come by it while the table is locked.
        let idle = shared
            .table
            .iter()
            .filter(|known| Arc::strong_count(known) == 1)
            .map(|known| (known.used.load(Ordering::Relaxed), known.key()))
            .min_by_key(|(used, _)| *used)
            .map(|(used, key)| (used, self.hasher.hash_one(key)));
        let Some((used, hash)) = idle else {
            return false;
        };
        shared
            .table
            .find_entry(hash, |known| known.used.load(Ordering::Relaxed) == used)
            .map(hashbrown::hash_table::OccupiedEntry::remove)
            .is_ok()
    }
}

/// The name of the destination that newcomers to a full table share.
pub const OTHER: &str = "other";

/// No call has port 0.
const OTHER_KEY: Key<'static> = Key {
    host: OTHER,
    port: 0,
    scope: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn names(destinations: &Destinations) -> Vec<String> {
        let mut names: Vec<_> = destinations
            .all()
            .iter()
            .map(|destination| destination.name.to_string())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn host_port_and_scope_tell_destinations_apart() {
        let table = Destinations::new(16);
        let rule = Rule::default();
        let scoped = Rule {
            scope: Some("payments".into()),
            ..Rule::default()
        };
        let first = table.get("a.test", 80, &rule, 1);
        assert!(Arc::ptr_eq(&first, &table.get("a.test", 80, &rule, 1)));
        for (host, port, rule) in [
            ("a.test", 81, &rule),
            ("b.test", 80, &rule),
            ("a.test", 80, &scoped),
            ("2001:db8::7", 80, &rule),
        ] {
            assert!(!Arc::ptr_eq(&first, &table.get(host, port, rule, 1)));
        }
        assert_eq!(
            names(&table),
            [
                "[2001:db8::7]:80",
                "a.test:80",
                "a.test:80/payments",
                "a.test:81",
                "b.test:80"
            ]
        );
    }

    #[test]
    fn the_least_recently_used_idle_destination_makes_room() {
        let table = Destinations::new(3);
        let rule = Rule::default();
        let busy = table.get("busy.test", 80, &rule, 1);
        drop(table.get("old.test", 80, &rule, 1));
        drop(table.get("young.test", 80, &rule, 1));
        drop(table.get("new.test", 80, &rule, 1));
        let expected = ["busy.test:80", "new.test:80", "young.test:80"];
        assert_eq!(names(&table), expected);
        drop(busy);
    }

    #[test]
    fn when_all_are_busy_newcomers_share_one() {
        let table = Destinations::new(1);
        let rule = Rule::default();
        let busy = table.get("busy.test", 80, &rule, 1);
        let one = table.get("one.test", 80, &rule, 1);
        let two = table.get("two.test", 80, &rule, 1);
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(&*one.name, "other");
        drop((one, two, busy));
        assert_eq!(&*table.get("one.test", 80, &rule, 1).name, "one.test:80");
    }

    #[test]
    fn settings_follow_newer_revisions_only() {
        let table = Destinations::new(4);
        let limited = |limit| {
            let mut rule = Rule::default();
            rule.admission.limit = limit;
            rule
        };
        let destination = table.get("a.test", 80, &limited(8), 2);
        for (limit, revision, expected) in [(9, 2, 8), (7, 1, 8), (3, 3, 3)] {
            drop(table.get("a.test", 80, &limited(limit), revision));
            assert_eq!(destination.admission.limit(), expected);
        }
    }
}
