//! Brings a policy to pods, batch by batch, and goes back when calls end worse.
//!
//! Every pod is read first; the revision found then is the only one that is replaced, however long the push takes. Before
//! the first batch and after each, calls are counted for as long ([`verdict`](super::verdict) compares). The first batch
//! that fails ends the push; one whose calls end worse takes all pods of this push back.

mod steps;

use std::cell::RefCell;
use std::io::Write as _;
use std::ops::Range;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, sleep_until};

use super::PushArguments;
use super::cluster::Cluster;
use super::plan::batches;
use super::proxy::Trouble;
use super::report::{PodResult, Row, Rows, pods};
use super::traffic::Traffic;
use super::verdict::{CALLS_MIN, Verdict, judge};
use crate::output::{Output, printable};
use steps::end_badly;

/// A push under way.
#[derive(Debug)]
pub(super) struct Rollout<'a> {
    cluster: &'a Cluster,
    policy: &'a str,
    arguments: &'a PushArguments,
    rows: Rows,
    notes: RefCell<Vec<String>>,
    output: Output,
}

/// Why a push does not go on.
type Stopped = String;

impl<'a> Rollout<'a> {
    pub(super) fn new(
        cluster: &'a Cluster,
        policy: &'a str,
        arguments: &'a PushArguments,
        rows: Rows,
        output: Output,
    ) -> Self {
        Self {
            cluster,
            policy,
            arguments,
            rows,
            notes: RefCell::default(),
            output,
        }
    }

    /// The pods as they are now, and what is to be said besides.
    pub(super) fn into_parts(self) -> (Vec<Row>, Vec<String>) {
        (self.rows.into_inner(), self.notes.into_inner())
    }

    pub(super) async fn run(&self) -> Result<(), Stopped> {
        let watch = self.arguments.watch();
        let waiting = self.rows.places(|row| row.result == PodResult::NotReached);
        self.for_each(&waiting, |place| self.read(place, !watch.is_zero()))
            .await;
        let targets = self.rows.places(|row| row.result == PodResult::NotReached);
        let batches = batches(
            targets.len(),
            self.arguments.canary,
            self.arguments.max_unavailable,
        );
        if !watch.is_zero() && !targets.is_empty() {
            self.tell(&format!(
                "counting for {watch:?} how the calls of {} end now",
                pods(targets.len())
            ));
            sleep(watch).await;
        }
        let count = batches.len();
        for (number, Range { start, end }) in batches.into_iter().enumerate() {
            let batch = targets.get(start..end).unwrap_or_default();
            self.tell(&format!(
                "batch {} of {count}: {}",
                number + 1,
                pods(batch.len())
            ));
            self.batch(batch, watch).await?;
        }
        let failed = self
            .rows
            .places(|row| row.result == PodResult::Failed)
            .len();
        if failed > 0 {
            return Err(format!(
                "{} could not be asked, and nothing was written there",
                pods(failed)
            ));
        }
        Ok(())
    }

    async fn batch(&self, batch: &[usize], watch: Duration) -> Result<(), Stopped> {
        let at_push = if watch.is_zero() {
            Looks::default()
        } else {
            self.traffic(batch).await
        };
        for (place, why) in at_push.silent {
            // What cannot be watched is not changed.
            let trouble = Trouble::Failed(format!("nothing was written: {why}"));
            self.rows.change(place, |row| end_badly(row, trouble, ""));
        }
        self.for_each(batch, |place| self.write(place)).await;
        if let Some(wait) = self.arguments.wait.filter(|_| !self.arguments.dry_run) {
            let deadline = Instant::now() + wait;
            self.for_each(&self.changed(batch), |place| self.wait(place, deadline))
                .await;
        }
        let is_failed = |place: &&usize| {
            self.rows
                .get(**place)
                .is_some_and(|row| row.result == PodResult::Failed)
        };
        let failed = batch.iter().filter(is_failed).count();
        if failed > 0 {
            return Err(format!(
                "{} of this batch failed; those that were written keep the new policy",
                pods(failed)
            ));
        }
        // Whose policy did not change, nobody has to look at.
        let at_push: Vec<Look> = at_push
            .seen
            .into_iter()
            .filter(|look| self.changed(&[look.place]).len() == 1)
            .collect();
        if at_push.is_empty() {
            return Ok(());
        }
        if let Err(why) = self.watch(&at_push, watch).await {
            self.tell(&why);
            let written = self.rows.places(|row| row.result == PodResult::Applied);
            self.for_each(&written, |place| self.roll_back(place, &why))
                .await;
            return Err(why);
        }
        Ok(())
    }

    /// Looks at a batch until the time is over; the error says what rose.
    async fn watch(&self, at_push: &[Look], watch: Duration) -> Result<(), Stopped> {
        self.tell(&format!(
            "watching for {watch:?} how the calls of {} end",
            pods(at_push.len())
        ));
        let places: Vec<usize> = at_push.iter().map(|look| look.place).collect();
        let end = Instant::now() + watch;
        loop {
            sleep_until(end.min(Instant::now() + PERIOD)).await;
            let is_over = Instant::now() >= end;
            let now = self.traffic(&self.changed(&places)).await;
            let (mut before, mut after) = (Traffic::default(), Traffic::default());
            for look in &now.seen {
                let then = at_push.iter().find(|then| then.place == look.place);
                if let (Some(then), Some(row)) = (then, self.rows.get(look.place)) {
                    before.add(&then.traffic.since(&row.start));
                    after.add(&look.traffic.since(&then.traffic));
                }
            }
            match judge(&before, &after) {
                Verdict::Risen(rise) => return Err(rise.to_string()),
                Verdict::TooFew { before, after } if is_over => {
                    self.notes.borrow_mut().push(format!(
                        "too few calls to compare ({before} before, {after} after; {CALLS_MIN} are needed): nobody knows \
                         whether {} fare as well as before",
                        pods(now.seen.len())
                    ));
                }
                Verdict::TooFew { .. } | Verdict::Steady => {}
            }
            match now
                .silent
                .first()
                .and_then(|(place, why)| Some((self.rows.get(*place)?, why)))
            {
                Some((row, why)) if is_over => {
                    return Err(format!(
                        "{} does not answer since it was written: {why}",
                        row.pod
                    ));
                }
                None if is_over => return Ok(()),
                Some(_) | None => {}
            }
        }
    }

    /// What those count now that answer; those that are gone are noted so.
    async fn traffic(&self, places: &[usize]) -> Looks {
        let looks = RefCell::new(Looks::default());
        let found = &looks;
        let look = |place| async move {
            let Some(row) = self.rows.get(place) else {
                return;
            };
            match self.proxy(&row).traffic().await {
                Ok(traffic) => found.borrow_mut().seen.push(Look { place, traffic }),
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

    /// Those of the places whose policy this push has changed.
    fn changed(&self, places: &[usize]) -> Vec<usize> {
        let changed = self.rows.places(|row| row.result == PodResult::Applied);
        changed
            .into_iter()
            .filter(|place| places.contains(place))
            .collect()
    }

    /// Does this for all places, some at a time.
    async fn for_each<F: Future<Output = ()>>(&self, places: &[usize], work: impl Fn(usize) -> F) {
        stream::iter(places.to_vec())
            .for_each_concurrent(AT_A_TIME_MAX, work)
            .await;
    }

    /// Says how far it is, to people.
    fn tell(&self, text: &str) {
        if self.output.is_for_people() {
            // Without standard error there is nobody to tell.
            writeln!(std::io::stderr(), "{}", printable(text)).ok();
        }
    }
}

/// What a pod had counted at one time.
#[derive(Debug)]
struct Look {
    place: usize,
    traffic: Traffic,
}

/// What several had counted, and why others did not say.
#[derive(Debug, Default)]
struct Looks {
    seen: Vec<Look>,
    silent: Vec<(usize, String)>,
}

/// Most pods that are asked at a time: each is a connection to the API server.
const AT_A_TIME_MAX: usize = 16;
/// Time between two looks at a batch: a rise is acted upon before the watch is over.
const PERIOD: Duration = Duration::from_secs(5);
