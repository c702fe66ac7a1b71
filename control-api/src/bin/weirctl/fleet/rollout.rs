//! Brings a policy to pods, batch by batch, and goes back when calls end worse.
//!
//! Every pod is read first; the revision found then is the only one that is replaced, however long the push takes. Before
//! the first batch and after each, calls are counted for as long ([`watch`]). The first batch that fails, or of which no
//! pod is left, ends the push ([`proof`]); one that fares worse takes all pods of this push back.

mod proof;
mod steps;
mod watch;

use std::cell::RefCell;
use std::io::Write as _;
use std::ops::Range;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::PushArguments;
use super::cluster::Cluster;
use super::plan::batches;
use super::proxy::Trouble;
use super::report::{PodResult, Row, Rows, pods};
use crate::output::{Output, printable};
use steps::end_badly;
use watch::{Look, Looks};

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
        proof::of_push(&self.rows.results())
    }

    async fn batch(&self, batch: &[usize], watch: Duration) -> Result<(), Stopped> {
        let at_push = if watch.is_zero() {
            Looks::default()
        } else {
            self.look(batch).await
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
        proof::of_batch(&self.results(batch))?;
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
        // Pods that were deleted meanwhile, or written by others, are no proof.
        proof::of_batch(&self.results(batch))
    }

    fn results(&self, places: &[usize]) -> Vec<PodResult> {
        let rows = places.iter().filter_map(|place| self.rows.get(*place));
        rows.map(|row| row.result).collect()
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

/// Most pods that are asked at a time: each is a connection to the API server.
const AT_A_TIME_MAX: usize = 16;
