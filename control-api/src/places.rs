//! Places for connections of strangers: when all are taken, whoever has least to lose goes.
//!
//! A port that simply stops accepting is closed by anybody who opens a few connections and says nothing. Here newcomers
//! always come in, so that a kubelet's probe or an API server's review is answered however many others sit there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// A bounded number of places. `H` is what a connection is ended by.
#[derive(Debug)]
pub struct Places<H> {
    connections_max: usize,
    turns: Arc<AtomicU64>,
    taken: Vec<(Place, H)>,
}

/// A connection's place; the connection says by it when it asks something.
#[derive(Debug, Clone)]
pub struct Place(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    turns: Arc<AtomicU64>,
    /// When it came in, or was last answered, in turns.
    last: AtomicU64,
    has_asked: AtomicBool,
    open_requests: AtomicU32,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Asking(Place);

impl<H> Places<H> {
    /// At most `connections_max` connections at a time; with none, there would be no port.
    #[must_use]
    pub fn new(connections_max: usize) -> Self {
        Self {
            connections_max: connections_max.max(1),
            turns: Arc::default(),
            taken: Vec::new(),
        }
    }

    /// The place of a connection that begins now.
    #[must_use]
    pub fn place(&self) -> Place {
        let place = Place(Arc::new(Inner {
            turns: Arc::clone(&self.turns),
            ..Inner::default()
        }));
        place.takes_turn();
        place
    }

    /// Lets a connection in. The answer is whose connection is to be ended for it, if one is.
    pub fn enter(&mut self, place: Place, handle: H, is_gone: impl Fn(&H) -> bool) -> Option<H> {
        self.taken.retain(|(_, handle)| !is_gone(handle));
        let evicted = if self.taken.len() < self.connections_max {
            None
        } else {
            self.least().map(|index| self.taken.swap_remove(index).1)
        };
        self.taken.push((place, handle));
        evicted
    }

    /// Whose connection is worth least: of those that wait for no answer the longest idle. Those that never asked anything
    /// go before those that did while they have more than half of the places; with fewer, they may be about to ask.
    fn least(&self) -> Option<usize> {
        let strangers = self.taken.iter().filter(|(place, _)| place.is_stranger());
        let only_strangers = strangers.count() > self.connections_max / 2;
        let worth = |place: &Place| {
            let is_spared = only_strangers && !place.is_stranger();
            (place.is_asking(), is_spared, place.0.last.load(Relaxed))
        };
        let places = self.taken.iter().enumerate();
        places
            .min_by_key(|(_, (place, _))| worth(place))
            .map(|(index, _)| index)
    }
}

impl Place {
    /// The connection asks something, until the value is dropped.
    #[must_use]
    pub fn asks(&self) -> Asking {
        self.0.has_asked.store(true, Relaxed);
        self.0.open_requests.fetch_add(1, Relaxed);
        Asking(self.clone())
    }

    fn takes_turn(&self) {
        let turn = self.0.turns.fetch_add(1, Relaxed);
        self.0.last.store(turn, Relaxed);
    }

    fn is_stranger(&self) -> bool {
        !self.0.has_asked.load(Relaxed)
    }

    fn is_asking(&self) -> bool {
        self.0.open_requests.load(Relaxed) > 0
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.0.open_requests.fetch_sub(1, Relaxed);
        self.0.takes_turn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets connections in, of which none ends by itself.
    fn enter<'a>(places: &mut Places<&'a str>, name: &'a str) -> (Place, Option<&'a str>) {
        let place = places.place();
        let evicted = places.enter(place.clone(), name, |_| false);
        (place, evicted)
    }

    #[test]
    fn whoever_is_idle_for_longest_goes() {
        let mut places = Places::new(2);
        let (first, _) = enter(&mut places, "first");
        let (second, _) = enter(&mut places, "second");
        drop(second.asks());
        drop(first.asks());
        assert_eq!(enter(&mut places, "third").1, Some("second"));
        drop(first.asks());
        assert_eq!(enter(&mut places, "fourth").1, Some("third"));
    }

    #[test]
    fn a_crowd_that_asks_nothing_keeps_to_itself() {
        let mut places = Places::new(4);
        let (known, _) = enter(&mut places, "known");
        drop(known.asks());
        for name in ["a", "b", "c"] {
            assert_eq!(enter(&mut places, name).1, None);
        }
        for gone in ["a", "b", "c"] {
            assert_eq!(enter(&mut places, "d").1, Some(gone));
        }
    }

    #[test]
    fn a_newcomer_can_speak_before_it_goes_though_all_others_have_asked() {
        let mut places = Places::new(4);
        for name in ["a", "b", "c", "d"] {
            drop(enter(&mut places, name).0.asks());
        }
        assert_eq!(enter(&mut places, "new").1, Some("a"));
        assert_eq!(enter(&mut places, "newer").1, Some("b"));
    }

    #[test]
    fn whoever_waits_for_an_answer_stays() {
        let mut places = Places::new(2);
        let (first, _) = enter(&mut places, "first");
        let asking = first.asks();
        enter(&mut places, "second");
        assert_eq!(enter(&mut places, "third").1, Some("second"));
        let (fourth, evicted) = enter(&mut places, "fourth");
        assert_eq!(evicted, Some("third"));
        // There is no other choice when all do.
        let _asking = fourth.asks();
        assert_eq!(enter(&mut places, "fifth").1, Some("first"));
        drop(asking);
    }

    #[test]
    fn nobody_goes_while_there_is_a_place() {
        let mut places = Places::new(2);
        enter(&mut places, "first");
        enter(&mut places, "second");
        let place = places.place();
        let first_is_gone = |handle: &&str| *handle == "first";
        assert_eq!(places.enter(place, "third", first_is_gone), None);
    }
}
