//! What is done with one pod of a push, and what its row says then.

use std::time::Duration;

use control_api::view::Applied;
use tokio::time::{Instant, sleep};

use super::super::proxy::{Proxy, Trouble};
use super::super::report::{PodResult, Row};
use super::super::traffic::Traffic;
use super::Rollout;

impl Rollout<'_> {
    /// Reads the revision in force, and if the pod is to be watched, what else that takes.
    pub(super) async fn read(&self, place: usize, is_watched: bool) {
        let Some(row) = self.rows.get(place) else {
            return;
        };
        let read = async {
            let proxy = self.proxy(&row);
            let revision = proxy.status().await?.policy.revision.revision;
            let (start, policy) = if is_watched {
                (proxy.traffic().await?, proxy.policy(revision).await?)
            } else {
                (Traffic::default(), String::new())
            };
            Ok((revision, start, policy))
        };
        let read: Result<_, Trouble> = read.await;
        self.rows.change(place, |row| match read {
            Ok((revision, start, policy)) => {
                row.before = Some(revision);
                row.after = Some(revision);
                row.start = start;
                row.policy = policy;
            }
            Err(trouble) => end_badly(row, trouble, "nothing was written"),
        });
    }

    /// Puts the policy into force, if the pod is still to be written.
    pub(super) async fn write(&self, place: usize) {
        let waits = |row: &Row| row.result == PodResult::NotReached;
        let Some((row, before)) = self
            .rows
            .get(place)
            .filter(waits)
            .and_then(|row| Some((row.clone(), row.before?)))
        else {
            return;
        };
        self.rows.change(place, |row| {
            row.ends(PodResult::Unknown, "interrupted while it was written");
        });
        let dry_run = self.arguments.dry_run;
        let proxy = self.proxy(&row);
        let mut applied = proxy.apply(self.policy, before, dry_run).await;
        if matches!(applied, Err(Trouble::Stale)) {
            applied = again(&proxy, self.policy).await;
        }
        self.rows.change(place, |row| match applied {
            Ok(Applied {
                revision, changes, ..
            }) => {
                row.after = Some(revision);
                let count = changes.len();
                match (changes.is_empty(), dry_run) {
                    (true, _) => row.ends(PodResult::Unchanged, ""),
                    (false, true) => row.ends(PodResult::WouldChange, format!("{count} changes")),
                    (false, false) => row.ends(PodResult::Applied, ""),
                }
            }
            Err(trouble) => end_badly(
                row,
                trouble,
                "another revision came between, which was not replaced; push again",
            ),
        });
    }

    /// Waits until the pod's status tells of the new revision.
    pub(super) async fn wait(&self, place: usize, deadline: Instant) {
        let Some((row, after)) = self
            .rows
            .get(place)
            .and_then(|row| Some((row.clone(), row.after?)))
        else {
            return;
        };
        let proxy = self.proxy(&row);
        let trouble = loop {
            match proxy.status().await {
                Ok(status) if status.policy.revision.revision == after => return,
                Ok(status) if status.policy.revision.revision > after => {
                    break Trouble::Failed(format!(
                        "revision {} replaced it",
                        status.policy.revision.revision
                    ));
                }
                Err(Trouble::Gone) => break Trouble::Gone,
                trouble if Instant::now() >= deadline => {
                    let why = match trouble {
                        Err(Trouble::Failed(why)) => why,
                        _ => "still another revision".to_owned(),
                    };
                    break Trouble::Failed(format!("not seen in force in time: {why}"));
                }
                _ => sleep(PAUSE).await,
            }
        };
        self.rows.change(place, |row| end_badly(row, trouble, ""));
    }

    pub(super) async fn roll_back(&self, place: usize, why: &str) {
        let row = self.rows.get(place);
        let Some((row, before, after)) =
            row.and_then(|row| Some((row.clone(), row.before?, row.after?)))
        else {
            return;
        };
        self.rows.change(place, |row| {
            row.ends(PodResult::Unknown, "interrupted while it was rolled back");
        });
        let proxy = self.proxy(&row);
        let mut rolled_back = proxy.roll_back(before, after).await;
        let deadline = Instant::now() + BACK_TIME_MAX;
        // A proxy that started again has no earlier revisions, and one that is about to does not answer yet.
        while matches!(rolled_back, Err(Trouble::Failed(_))) && Instant::now() < deadline {
            sleep(PAUSE).await;
            rolled_back = proxy.apply(&row.policy, after, false).await;
            if matches!(rolled_back, Err(Trouble::Stale)) {
                // It may be what an earlier try brought back, whose answer was lost.
                rolled_back = again(&proxy, &row.policy).await;
            }
        }
        self.rows.change(place, |row| match rolled_back {
            Ok(applied) => {
                row.after = Some(applied.revision);
                row.ends(
                    PodResult::RolledBack,
                    format!("to the policy of {before}: {why}"),
                );
            }
            // A proxy that ends again and again does so under the new policy, which it keeps on its disk.
            Err(Trouble::Failed(trouble)) => row.ends(
                PodResult::Failed,
                format!(
                    "not rolled back: {trouble}; it may have the new policy until it is deleted, or given another (weirctl --pod)"
                ),
            ),
            Err(trouble) => end_badly(
                row,
                trouble,
                "not rolled back: another revision came between",
            ),
        });
    }

    pub(super) fn proxy<'b>(&'b self, row: &'b Row) -> Proxy<'b> {
        Proxy {
            cluster: self.cluster,
            pod: &row.pod,
            uid: row.uid.as_deref(),
        }
    }
}

/// Another revision came between. If it is the same policy, as when the `ConfigMap` was written first, all is well; otherwise
/// it is somebody else's, and stays.
async fn again(proxy: &Proxy<'_>, policy: &str) -> Result<Applied, Trouble> {
    let revision = proxy.status().await?.policy.revision.revision;
    let tried = proxy.apply(policy, revision, true).await?;
    if tried.changes.is_empty() {
        Ok(tried)
    } else {
        Err(Trouble::Stale)
    }
}

pub(super) fn end_badly(row: &mut Row, trouble: Trouble, if_stale: &str) {
    match trouble {
        Trouble::Gone => row.ends(PodResult::Gone, "deleted meanwhile"),
        Trouble::Stale => row.ends(PodResult::Failed, if_stale),
        Trouble::Failed(why) => row.ends(PodResult::Failed, why),
    }
}

/// How long it is tried to give a pod the policy back that it had: the kubelet starts a container again after 10 s at the latest,
/// the second time.
const BACK_TIME_MAX: Duration = Duration::from_secs(15);
/// Time between two tries, or two questions whether a revision is in force.
const PAUSE: Duration = Duration::from_millis(500);
