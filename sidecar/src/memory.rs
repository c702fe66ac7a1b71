//! Tells when the process comes near the memory that it may have.
//!
//! Each buffer has a bound, and many of them together have none: a thousand downloads that nobody reads take some hundred
//! MiB. Past its container's limit the proxy is killed, and the pod has no way out. So a [`Watch`] looks at the resident
//! memory ten times a second, and near the bound whoever would take more asks [`Memory::is_short`]: listeners pause, new
//! calls are shed, unused connections to servers close, and of HTTP/1 nothing is read ahead of an application that does not
//! read. Calls in flight go on, and so does one at a time to each destination and one connection a second: whatever it is that
//! fills the memory, there is a way out.

use std::fs;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Whether memory is short. To be asked on every call: one relaxed load.
#[derive(Debug)]
pub struct Memory {
    short: AtomicBool,
    resident: AtomicU64,
    bytes_max: u64,
    changes: watch::Sender<bool>,
}

impl Memory {
    /// Memory with a bound, and what has to watch it.
    #[must_use]
    pub fn bounded(bytes_max: u64) -> (Arc<Self>, Watch) {
        let memory = Arc::new(Self {
            bytes_max,
            ..Self::default()
        });
        let watch = Watch {
            marks: Marks::below(bytes_max),
            calm: 0,
            memory: Arc::clone(&memory),
        };
        (memory, watch)
    }

    /// Whether the process has come near its bound.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.short.load(Relaxed)
    }

    /// The numbers that it goes by, for whoever asks why a call was refused.
    #[must_use]
    pub fn inputs(&self) -> [(&'static str, f64); 2] {
        let kib = |bytes: u64| f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX));
        [
            ("resident_kib", kib(self.resident.load(Relaxed))),
            ("memory_max_kib", kib(self.bytes_max)),
        ]
    }

    /// Waits until memory is short, or until it is not. Cancel-safe.
    pub async fn becomes(&self, is_short: bool) {
        let mut changes = self.changes.subscribe();
        // The sender is `self`.
        drop(changes.wait_for(|now| *now == is_short).await);
    }

    /// What [`is_short`](Self::is_short) answers from now on.
    pub(crate) fn set(&self, is_short: bool) {
        self.short.store(is_short, Relaxed);
        self.changes.send_replace(is_short);
    }
}

impl Default for Memory {
    /// Memory without a bound: never short.
    fn default() -> Self {
        Self {
            short: AtomicBool::new(false),
            resident: AtomicU64::new(0),
            bytes_max: 0,
            changes: watch::Sender::new(false),
        }
    }
}

/// Looks at the resident memory, and says when it is short.
#[derive(Debug)]
pub struct Watch {
    marks: Marks,
    /// Looks in a row that found less than the high mark.
    calm: u32,
    memory: Arc<Memory>,
}

impl Watch {
    /// Watches for as long as it is polled, or until the system does not say.
    pub async fn run(mut self) {
        let page = match page_bytes() {
            Ok(page) => page,
            Err(error) => return give_up(&error),
        };
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match resident(page) {
                Ok(resident) => self.look(resident),
                Err(error) => {
                    self.memory.set(false);
                    return give_up(&error);
                }
            }
        }
    }

    fn look(&mut self, resident: u64) {
        let memory = &self.memory;
        memory.resident.store(resident, Relaxed);
        let is_calm = resident < self.marks.high;
        self.calm = if is_calm {
            self.calm.saturating_add(1)
        } else {
            0
        };
        let was_short = memory.is_short();
        let is_short = self.marks.judge(resident, was_short, self.calm);
        if is_short != was_short {
            memory.set(is_short);
            let bytes_max = memory.bytes_max;
            if is_short {
                tracing::warn!(
                    resident,
                    bytes_max,
                    "memory is short: new connections wait and new calls are refused; who does not read what it asked for, or is WEIR_MEMORY_MAX (the container's limit) too low?"
                );
            } else {
                tracing::info!(resident, bytes_max, "there is enough memory again");
            }
        }
        if resident >= self.marks.low {
            purge();
        }
    }
}

/// Where memory becomes short, and where it is enough again, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    high: u64,
    low: u64,
}

impl Marks {
    fn below(bytes_max: u64) -> Self {
        Self {
            high: bytes_max / 100 * SHORT_PERCENT,
            low: bytes_max / 100 * ENOUGH_PERCENT,
        }
    }

    /// Whether memory is short now, given whether it was, and for how many looks it has been below the high mark.
    fn judge(self, resident: u64, was_short: bool, calm: u32) -> bool {
        if was_short {
            resident >= self.low && calm < CALM_LOOKS
        } else {
            resident >= self.high
        }
    }
}

/// Resident memory, in bytes: proc(5), the second field of `statm`. Some microseconds, where Pss takes hundreds.
fn resident(page: u64) -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    pages(&statm)
        .and_then(|pages| pages.checked_mul(page))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, statm))
}

fn pages(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

fn page_bytes() -> io::Result<u64> {
    let bytes = sysconf(SysconfVar::PAGE_SIZE)?;
    let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
    bytes.ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn give_up(error: &io::Error) {
    tracing::error!(%error, "reading /proc/self/statm: memory has no bound from now on");
}

/// Lets the allocator give freed memory back.
///
/// mimalloc does so a second after a page was freed, when some thread frees one again; an application that has gone quiet
/// would leave memory resident, and short, for good. A large allocation has a page of its own, and its end is such an event.
fn purge() {
    drop(black_box(Vec::<u8>::with_capacity(LARGE)));
}

/// Time between two looks. At 200 MiB a second, which 1,000 downloads that begin together were seen to take, 20 MiB pass in it.
const PERIOD: Duration = Duration::from_millis(100);
/// The rest is for what calls in flight still take, and for the kernel's part of the container's memory.
const SHORT_PERCENT: u64 = 70;
/// Far enough below that the two do not alternate with every call.
const ENOUGH_PERCENT: u64 = 60;
/// Between the marks memory may be at rest, as with thousands of idle connections: after a second it is no longer short.
const CALM_LOOKS: u32 = 10;
/// More than what mimalloc puts on a page with others (512 KiB).
const LARGE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_from_the_high_mark_until_below_the_low_one() {
        let marks = Marks::below(1000);
        assert_eq!(
            marks,
            Marks {
                high: 700,
                low: 600
            }
        );
        let mut is_short = false;
        let looks = [0, 699, 700, 699, 600, 599, 650, 700, 2000, 0];
        let seen = looks.map(|resident| {
            is_short = marks.judge(resident, is_short, 0);
            is_short
        });
        let expected = [
            false, false, true, true, true, false, false, true, true, false,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn memory_that_rests_between_the_marks_is_not_short_for_ever() {
        let (memory, mut watch) = Memory::bounded(1000);
        watch.look(700);
        for _ in 1..CALM_LOOKS {
            watch.look(650);
            assert!(memory.is_short());
        }
        watch.look(650);
        assert!(!memory.is_short());
        watch.look(699);
        assert!(!memory.is_short());
    }

    #[tokio::test]
    async fn whoever_waits_is_told_when_memory_becomes_short_and_when_it_is_enough() {
        let (memory, mut watch) = Memory::bounded(1_024_000);
        memory.becomes(false).await;
        let (told, ()) = tokio::join!(memory.becomes(true), async { watch.look(819_200) });
        assert_eq!((told, memory.is_short()), ((), true));
        let inputs = [("resident_kib", 800.0), ("memory_max_kib", 1000.0)];
        assert_eq!(memory.inputs(), inputs);
        tokio::join!(memory.becomes(false), async { watch.look(512_000) });
        assert!(!memory.is_short());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_above_its_bound_is_told_so() {
        let (memory, watch) = Memory::bounded(1);
        let watched = tokio::time::timeout(2 * PERIOD, watch.run());
        assert!(watched.await.is_err(), "it goes on");
        assert!(memory.is_short() && memory.resident.load(Relaxed) > 100_000);
    }

    #[test]
    fn text_that_is_no_statm_gives_nothing() {
        assert_eq!(pages("3158 1021 836 5 0 400 0\n"), Some(1021));
        assert_eq!((pages(""), pages("1"), pages("1 x 2")), (None, None, None));
    }
}
