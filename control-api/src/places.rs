//! Places for connections of strangers: when all are taken, whoever has asked nothing for longest goes.
//!
//! A port that simply stops accepting is closed by anybody who opens a few connections and says nothing. Here newcomers
//! always come in, so that a kubelet's probe or an API server's review is answered however many others sit there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bounded number of places. `H` is what a connection is ended by.
#[derive(Debug)]
pub struct Places<H> {
    count: usize,
    turns: Arc<AtomicU64>,
    taken: Vec<(Seat, H)>,
    evicted: u64,
}

/// What a connection says of itself: when it last asked something.
#[derive(Debug, Clone)]
pub struct Seat {
    turns: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
}

impl<H> Places<H> {
    /// So many, at least one.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self {
            count: count.max(1),
            turns: Arc::default(),
            taken: Vec::new(),
            evicted: 0,
        }
    }

    /// A seat for a connection that begins now.
    #[must_use]
    pub fn seat(&self) -> Seat {
        let seat = Seat {
            turns: Arc::clone(&self.turns),
            last: Arc::default(),
        };
        seat.asked();
        seat
    }

    /// Lets a connection in. The answer is whose connection is to be ended for it, if one is.
    pub fn enter(&mut self, seat: Seat, handle: H, is_gone: impl Fn(&H) -> bool) -> Option<H> {
        self.taken.retain(|(_, handle)| !is_gone(handle));
        let longest = if self.taken.len() < self.count {
            None
        } else {
            let places = self.taken.iter().enumerate();
            places.min_by_key(|(_, (seat, _))| seat.last.load(Ordering::Relaxed))
        };
        let longest = longest.map(|(place, _)| place);
        let evicted = longest.map(|place| self.taken.swap_remove(place).1);
        self.evicted += u64::from(evicted.is_some());
        self.taken.push((seat, handle));
        evicted
    }

    /// How many had to go so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl Seat {
    /// The connection asks something, or was just answered.
    pub fn asked(&self) {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        self.last.store(turn, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: fn(&&str) -> bool = |_| false;

    #[test]
    fn whoever_asked_nothing_for_longest_goes() {
        let mut places = Places::new(2);
        let (first, second, third) = (places.seat(), places.seat(), places.seat());
        assert_eq!(places.enter(first.clone(), "first", NOBODY), None);
        assert_eq!(places.enter(second.clone(), "second", NOBODY), None);
        first.asked();
        assert_eq!(places.enter(third, "third", NOBODY), Some("second"));
        second.asked();
        assert_eq!(places.enter(places.seat(), "fourth", NOBODY), Some("third"));
        assert_eq!(places.evicted(), 2);
    }

    #[test]
    fn nobody_goes_while_there_is_a_place() {
        let mut places = Places::new(2);
        for name in ["first", "second"] {
            assert_eq!(places.enter(places.seat(), name, NOBODY), None);
        }
        let first_is_gone = |handle: &&str| *handle == "first";
        assert_eq!(places.enter(places.seat(), "third", first_is_gone), None);
        assert_eq!(places.evicted(), 0);
    }
}
