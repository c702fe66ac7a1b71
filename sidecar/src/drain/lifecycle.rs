//! Decides when the proxy may end. Pure: what happens is told to it, and `now` is an argument.
//!
//! ```text
//! Serving ──terminate──> Lingering ──application gone, or drain time over──> Finishing ──all closed, or time over──> Ended
//!    └──application ended──────────────────────────────────────────────────────^
//! terminate again, in any phase ──────────────────────────────────────────────────────────────────────────────────────^
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// How long the phases may last.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Longest time to go on as before after the first SIGTERM.
    ///
    /// With [`finish_time`](Self::finish_time) below a pod's usual grace period of 30 s, so that spans are flushed
    /// before the kill.
    pub drain_time: Duration,
    /// How long the application must have had no connection at all to be taken for gone.
    ///
    /// Only counts after SIGTERM. Long enough for an application that opens a new connection for each call of its
    /// shutdown.
    pub quiet_time: Duration,
    /// Longest time for open calls to finish once no new ones are taken.
    pub finish_time: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            drain_time: Duration::from_secs(20),
            quiet_time: Duration::from_secs(2),
            finish_time: Duration::from_secs(5),
        }
    }
}

/// Where the proxy is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody has asked for an end.
    Serving,
    /// Asked to end: everything goes on as before, for the application's sake.
    Lingering,
    /// No new connections; open calls finish.
    Finishing,
    /// Nothing is waited for any more.
    Ended,
}

/// The phase, and what its end depends on.
#[derive(Debug)]
pub struct Lifecycle {
    settings: Settings,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Serving,
    Lingering {
        until: Instant,
        quiet_since: Option<Instant>,
    },
    Finishing {
        until: Instant,
    },
    Ended,
}

impl Lifecycle {
    /// Serving.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Serving,
        }
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Serving => Phase::Serving,
            State::Lingering { .. } => Phase::Lingering,
            State::Finishing { .. } => Phase::Finishing,
            State::Ended => Phase::Ended,
        }
    }

    /// Somebody asks for an end: a first time with patience, a second time without.
    pub fn terminate(&mut self, now: Instant) {
        self.state = match self.state {
            // Serving => Lingering
            State::Serving => State::Lingering {
                until: now + self.settings.drain_time,
                quiet_since: None,
            },
            // Lingering, Finishing => Ended
            State::Lingering { .. } | State::Finishing { .. } | State::Ended => State::Ended,
        };
    }

    /// The application is known to have ended: only what it left open is waited for.
    pub fn application_ended(&mut self, now: Instant) {
        self.state = match self.state {
            // Serving, Lingering => Finishing
            State::Serving | State::Lingering { .. } => self.finishing(now),
            State::Finishing { .. } | State::Ended => self.state,
        };
    }

    /// So many of the application's connections are open.
    pub fn observe(&mut self, connections_open: usize, now: Instant) {
        self.state = match self.state {
            State::Lingering { until, quiet_since } => {
                let quiet_since = (connections_open == 0).then(|| quiet_since.unwrap_or(now));
                let gone = quiet_since.is_some_and(|since| now >= since + self.settings.quiet_time);
                if gone || now >= until {
                    // Lingering => Finishing
                    self.finishing(now)
                } else {
                    State::Lingering { until, quiet_since }
                }
            }
            // Finishing => Ended
            State::Finishing { until } if connections_open == 0 || now >= until => State::Ended,
            State::Serving | State::Finishing { .. } | State::Ended => self.state,
        };
    }

    /// When to [`observe`](Self::observe) next. None: only when something happens.
    #[must_use]
    pub fn next_look(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Lingering { until, .. } | State::Finishing { until } => {
                Some(until.min(now + LOOK_INTERVAL))
            }
            State::Serving | State::Ended => None,
        }
    }

    fn finishing(&self, now: Instant) -> State {
        State::Finishing {
            until: now + self.settings.finish_time,
        }
    }
}

/// Looking costs next to nothing, and happens only at the end of a process's life.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        drain_time: Duration::from_secs(20),
        quiet_time: Duration::from_secs(2),
        finish_time: Duration::from_secs(5),
    };

    fn after(began: Instant, seconds: u64) -> Instant {
        began + Duration::from_secs(seconds)
    }

    /// Told to end at the instant that is returned.
    fn lingering() -> (Lifecycle, Instant) {
        let (mut lifecycle, now) = (Lifecycle::new(SETTINGS), Instant::now());
        lifecycle.terminate(now);
        (lifecycle, now)
    }

    #[test]
    fn nothing_ends_while_nobody_asks() {
        let mut lifecycle = Lifecycle::new(SETTINGS);
        let now = Instant::now();
        lifecycle.observe(0, after(now, 1_000_000));
        assert_eq!(lifecycle.phase(), Phase::Serving);
        assert_eq!(lifecycle.next_look(now), None);
    }

    #[test]
    fn an_application_that_keeps_connections_is_served_for_the_whole_drain_time() {
        let (mut lifecycle, began) = lingering();
        lifecycle.observe(1, after(began, 19));
        assert_eq!(lifecycle.phase(), Phase::Lingering);
        lifecycle.observe(1, after(began, 20));
        assert_eq!(lifecycle.phase(), Phase::Finishing);
    }

    #[test]
    fn an_application_without_connections_for_a_while_is_gone() {
        let (mut lifecycle, began) = lingering();
        lifecycle.observe(0, after(began, 3));
        lifecycle.observe(0, after(began, 4));
        assert_eq!(lifecycle.phase(), Phase::Lingering);
        lifecycle.observe(0, after(began, 5));
        assert_eq!(lifecycle.phase(), Phase::Finishing);
    }

    #[test]
    fn a_new_connection_starts_the_quiet_time_anew() {
        let (mut lifecycle, began) = lingering();
        lifecycle.observe(0, began);
        lifecycle.observe(1, after(began, 1));
        lifecycle.observe(0, after(began, 2));
        lifecycle.observe(0, after(began, 3));
        assert_eq!(lifecycle.phase(), Phase::Lingering);
        lifecycle.observe(0, after(began, 4));
        assert_eq!(lifecycle.phase(), Phase::Finishing);
    }

    #[test]
    fn open_calls_may_finish_for_a_while() {
        let (mut lifecycle, began) = lingering();
        lifecycle.application_ended(began);
        lifecycle.observe(1, after(began, 4));
        assert_eq!(lifecycle.phase(), Phase::Finishing);
        lifecycle.observe(1, after(began, 5));
        assert_eq!(lifecycle.phase(), Phase::Ended);
    }

    #[test]
    fn it_ends_as_soon_as_nothing_is_open() {
        let (mut lifecycle, began) = lingering();
        lifecycle.application_ended(began);
        lifecycle.observe(0, began);
        assert_eq!(lifecycle.phase(), Phase::Ended);
    }

    #[test]
    fn an_application_that_ended_by_itself_is_not_lingered_for() {
        let (mut lifecycle, now) = (Lifecycle::new(SETTINGS), Instant::now());
        lifecycle.application_ended(now);
        assert_eq!(lifecycle.phase(), Phase::Finishing);
    }

    #[test]
    fn a_second_request_ends_it_at_once_in_any_phase() {
        let (mut lifecycle, began) = lingering();
        lifecycle.terminate(began);
        assert_eq!(lifecycle.phase(), Phase::Ended);
        let (mut lifecycle, began) = lingering();
        lifecycle.application_ended(began);
        lifecycle.terminate(began);
        assert_eq!(lifecycle.phase(), Phase::Ended);
    }

    #[test]
    fn a_phase_that_can_end_by_time_is_looked_at_in_time() {
        let (lifecycle, began) = lingering();
        let almost = after(began, 20)
            .checked_sub(Duration::from_millis(1))
            .unwrap();
        assert_eq!(lifecycle.next_look(almost), Some(after(began, 20)));
        assert_eq!(lifecycle.next_look(began), Some(began + LOOK_INTERVAL));
    }
}
