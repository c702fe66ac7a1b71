//! How a batch fares under its new policy, from the write until the time is over.
//!
//! A pod speaks for the policy only while its proxy is the process that was written, and runs the revision that was
//! written. One that ended is a reason to go back: it may have been killed under the policy. One that was given
//! another revision says nothing of this one; [`proof`](super::proof) ends the push for it.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::life::{Life, Since};
use super::super::proxy::Trouble;
use super::super::report::{PodResult, pods};
use super::super::traffic::Traffic;
use super::super::verdict::{CALLS_MIN, Verdict, judge};
use super::steps::end_badly;
use super::{Rollout, Stopped};

/// What a pod had counted at one time.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) place: usize,
    traffic: Traffic,
    life: Life,
}

/// What several had counted, and why others did not say.
#[derive(Debug, Default)]
pub(super) struct Looks {
    pub(super) seen: Vec<Look>,
    pub(super) silent: Vec<(usize, String)>,
}

impl Rollout<'_> {
    /// Looks at a batch until the time is over; the error says why all have to go back.
    pub(super) async fn watch(&self, at_push: &[Look], watch: Duration) -> Result<(), Stopped> {
        self.tell(&format!(
            "watching for {watch:?} how the calls of {} end",
            pods(at_push.len())
        ));
        let places: Vec<usize> = at_push.iter().map(|look| look.place).collect();
        let end = Instant::now() + watch;
        loop {
            sleep_until(end.min(Instant::now() + PERIOD)).await;
            let is_over = Instant::now() >= end;
            let now = self.look(&self.changed(&places)).await;
            let (before, after) = self.since(at_push, &now.seen).await?;
            let left = self.changed(&places);
            if left.is_empty() {
                return Ok(());
            }
            let verdict = judge(&before, &after);
            if let Verdict::Risen(rise) = verdict {
                return Err(rise.to_string());
            }
            if !is_over {
                continue;
            }
            let silent = now.silent.first();
            if let Some((row, why)) =
                silent.and_then(|(place, why)| Some((self.rows.get(*place)?, why)))
            {
                return Err(format!(
                    "{} does not answer since it was written: {why}",
                    row.pod
                ));
            }
            if let Verdict::TooFew { before, after } = verdict {
                self.notes.borrow_mut().push(format!(
                    "too few calls to compare ({before} before, {after} after; {CALLS_MIN} are needed): nobody knows whether \
                     {} fare as well as before",
                    pods(left.len())
                ));
            }
            return Ok(());
        }
    }

    /// What those counted before the push and since that still are as they were written; the error names one whose proxy
    /// is not.
    async fn since(&self, at_push: &[Look], now: &[Look]) -> Result<(Traffic, Traffic), Stopped> {
        let (mut before, mut after) = (Traffic::default(), Traffic::default());
        let mut ended = Vec::new();
        for look in now {
            let then = at_push.iter().find(|then| then.place == look.place);
            let (Some(then), Some(row)) = (then, self.rows.get(look.place)) else {
                continue;
            };
            let since = look.life.since(&then.life, row.after);
            if let Since::Ended { .. } = since {
                // A StatefulSet's new pod has the old one's name.
                if self.proxy(&row).is_gone().await {
                    self.rows
                        .change(look.place, |row| end_badly(row, Trouble::Gone, ""));
                    continue;
                }
                ended.push(row.pod);
            }
            match since {
                Since::Same => {
                    before.add(&then.traffic.since(&row.start));
                    after.add(&look.traffic.since(&then.traffic));
                }
                // It runs the policy, and goes back with the others.
                Since::Ended { other: None } => {}
                Since::Ended { other: Some(other) } => self.fails(
                    look.place,
                    format!(
                        "its proxy ended under the new policy, and another runs revision {other}"
                    ),
                ),
                Since::Replaced(other) => {
                    self.fails(look.place, format!("revision {other} replaced it"));
                }
            }
        }
        match ended.as_slice() {
            [] => Ok((before, after)),
            [pod] => Err(format!(
                "the proxy of {pod} ended under the new policy; kubectl describe pod says why"
            )),
            [pod, others @ ..] => Err(format!(
                "the proxies of {pod} and {} more ended under the new policy; kubectl describe pod says why",
                pods(others.len())
            )),
        }
    }

    fn fails(&self, place: usize, why: String) {
        self.rows
            .change(place, |row| row.ends(PodResult::Failed, why));
    }

    /// What those count now that answer; those that are gone are noted so.
    pub(super) async fn look(&self, places: &[usize]) -> Looks {
        let looks = RefCell::new(Looks::default());
        let found = &looks;
        let look = |place| async move {
            let Some(row) = self.rows.get(place) else {
                return;
            };
            match self.proxy(&row).look().await {
                Ok((traffic, life)) => found.borrow_mut().seen.push(Look {
                    place,
                    traffic,
                    life,
                }),
                Err(Trouble::Gone) => self
                    .rows
                    .change(place, |row| end_badly(row, Trouble::Gone, "")),
                Err(Trouble::Failed(why)) => found.borrow_mut().silent.push((place, why)),
                Err(Trouble::Stale) => {}
            }
        };
        self.for_each(places, look).await;
        looks.into_inner()
    }
}

/// Time between two looks at a batch: a rise is acted upon before the watch is over.
const PERIOD: Duration = Duration::from_secs(5);
