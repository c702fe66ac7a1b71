//! Remembers which destinations made detection wait, so that it waits there only once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a destination's connections did before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Its server spoke before the application did: connect at once.
    ServerFirst,
    /// Its application stopped within what might have been HTTP or TLS: do not wait long for the rest.
    Ambiguous,
    /// Its application spoke HTTP, but so late that a connection to the server was opened for nothing: give it more
    /// time.
    LateHttp,
}

/// The habits of at most [`DESTINATIONS_MAX`] destinations, each kept for [`KEPT_FOR`] after it was last seen.
#[derive(Debug, Default)]
pub struct Remembered {
    habits: Mutex<HashMap<SocketAddr, Entry>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    habit: Habit,
    until: Instant,
}

impl Remembered {
    /// What is known of `destination`.
    #[must_use]
    pub fn habit(&self, destination: SocketAddr, now: Instant) -> Option<Habit> {
        let habits = self.habits.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = habits.get(&destination)?;
        (now < entry.until).then_some(entry.habit)
    }

    /// Notes that `destination` has this habit. Where there is no room, the one that was seen longest ago gives way.
    pub fn note(&self, destination: SocketAddr, habit: Habit, now: Instant) {
        let mut habits = self.habits.lock().unwrap_or_else(PoisonError::into_inner);
        if habits.len() >= DESTINATIONS_MAX && !habits.contains_key(&destination) {
            // Rare enough for a walk: only destinations with a habit come here, once each.
            let oldest = habits.iter().min_by_key(|(_, entry)| entry.until);
            if let Some(oldest) = oldest.map(|(destination, _)| *destination) {
                habits.remove(&oldest);
            }
        }
        let until = now + KEPT_FOR;
        habits.insert(destination, Entry { habit, until });
    }

    /// Notes that `destination` behaves like any other after all.
    pub fn forget(&self, destination: SocketAddr) {
        let mut habits = self.habits.lock().unwrap_or_else(PoisonError::into_inner);
        habits.remove(&destination);
    }
}

/// Far more than a pod's opaque destinations; about 64 KiB when full.
pub const DESTINATIONS_MAX: usize = 1024;
/// Long enough for pools that reconnect now and then, short enough that an address given to another pod is learnt anew.
pub const KEPT_FOR: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(number: usize) -> SocketAddr {
        let port = u16::try_from(number).unwrap();
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn a_habit_is_known_until_its_time_is_over() {
        let (remembered, now) = (Remembered::default(), Instant::now());
        remembered.note(destination(1), Habit::ServerFirst, now);
        let last = now + KEPT_FOR - Duration::from_nanos(1);
        let known = |at| remembered.habit(destination(1), at);
        assert_eq!(
            (known(last), known(now + KEPT_FOR)),
            (Some(Habit::ServerFirst), None)
        );
    }

    #[test]
    fn the_oldest_gives_way_when_there_is_no_room() {
        let (remembered, now) = (Remembered::default(), Instant::now());
        for number in 0..=DESTINATIONS_MAX {
            let later = now + Duration::from_millis(number.try_into().unwrap());
            remembered.note(destination(number), Habit::Ambiguous, later);
        }
        assert_eq!(remembered.habit(destination(0), now), None);
        assert_eq!(
            remembered.habit(destination(1), now),
            Some(Habit::Ambiguous)
        );
        assert_eq!(remembered.habits.lock().unwrap().len(), DESTINATIONS_MAX);
    }

    #[test]
    fn a_forgotten_destination_is_unknown() {
        let (remembered, now) = (Remembered::default(), Instant::now());
        remembered.note(destination(1), Habit::Ambiguous, now);
        remembered.forget(destination(1));
        assert_eq!(remembered.habit(destination(1), now), None);
    }
}
