//! What became of a push, pod by pod.

use std::cell::RefCell;

use control_api::document::Finding;
use serde::Serialize;

use super::traffic::Traffic;
use crate::table::Table;

/// What became of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PodResult {
    /// The push ended before it came to this pod.
    NotReached,
    /// The push was interrupted while this pod was written; what it runs is not known.
    Unknown,
    /// The policy is in force.
    Applied,
    /// The policy was in force already.
    Unchanged,
    /// The policy would be put into force; only tried.
    WouldChange,
    /// Not asked for anything.
    Skipped,
    /// Deleted meanwhile.
    Gone,
    /// See the detail.
    Failed,
    /// The policy was in force, and the one before it is again.
    RolledBack,
}

impl PodResult {
    fn word(self) -> &'static str {
        match self {
            Self::NotReached => "not reached",
            Self::Unknown => "unknown",
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::WouldChange => "would change",
            Self::Skipped => "skipped",
            Self::Gone => "gone",
            Self::Failed => "failed",
            Self::RolledBack => "rolled back",
        }
    }
}

/// One pod of a push.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) pod: String,
    #[serde(skip)]
    pub(super) uid: Option<String>,
    /// The revision that was in force at the start.
    pub(super) before: Option<u64>,
    /// The revision that is in force now.
    pub(super) after: Option<u64>,
    pub(super) result: PodResult,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) detail: String,
    /// How the pod's calls had ended when the push began.
    #[serde(skip)]
    pub(super) start: Traffic,
    /// The policy that was in force at the start, if the push may go back: a proxy that starts again forgets it.
    #[serde(skip)]
    pub(super) policy: String,
}

impl Row {
    pub(super) fn new(pod: String, uid: Option<String>) -> Self {
        Self {
            pod,
            uid,
            before: None,
            after: None,
            result: PodResult::NotReached,
            detail: String::new(),
            start: Traffic::default(),
            policy: String::new(),
        }
    }

    pub(super) fn ends(&mut self, result: PodResult, detail: impl Into<String>) {
        self.result = result;
        self.detail = detail.into();
    }
}

/// All pods of a push, to which those that are asked at the same time write.
#[derive(Debug, Default)]
pub(super) struct Rows(RefCell<Vec<Row>>);

impl Rows {
    pub(super) fn new(rows: Vec<Row>) -> Self {
        Self(RefCell::new(rows))
    }

    /// A copy of the row at this place.
    pub(super) fn get(&self, place: usize) -> Option<Row> {
        self.0.borrow().get(place).cloned()
    }

    pub(super) fn change(&self, place: usize, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.0.borrow_mut().get_mut(place) {
            change(row);
        }
    }

    /// The places of the rows of which this is true.
    pub(super) fn places(&self, is_one: impl Fn(&Row) -> bool) -> Vec<usize> {
        let rows = self.0.borrow();
        let rows = rows.iter().enumerate();
        rows.filter(|(_, row)| is_one(row))
            .map(|(place, _)| place)
            .collect()
    }

    pub(super) fn results(&self) -> Vec<PodResult> {
        self.0.borrow().iter().map(|row| row.result).collect()
    }

    pub(super) fn into_inner(self) -> Vec<Row> {
        self.0.into_inner()
    }
}

/// So many pods, in words.
pub(super) fn pods(count: usize) -> String {
    if count == 1 {
        "1 pod".to_owned()
    } else {
        format!("{count} pods")
    }
}

/// What became of a push.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) namespace: String,
    pub(super) selector: String,
    pub(super) pods: Vec<Row>,
    /// What is allowed in the policy, but probably not meant.
    pub(super) warnings: Vec<Finding>,
    /// What is worth knowing, and stopped nothing.
    pub(super) notes: Vec<String>,
    /// Why the push is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<String>,
}

/// For people.
pub(super) fn show(report: &Report) -> String {
    let mut table = Table::new(&["POD", "BEFORE", "AFTER", "RESULT", ""]);
    let number = |revision: Option<u64>| {
        revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string())
    };
    for row in &report.pods {
        table.push(vec![
            row.pod.clone(),
            number(row.before),
            number(row.after),
            row.result.word().to_owned(),
            row.detail.replace('\n', "; "),
        ]);
    }
    let warnings = report.warnings.iter();
    let warnings = warnings.map(|warning| format!("warning: {warning}"));
    let lines = warnings
        .chain(report.notes.iter().cloned())
        .map(|line| line + "\n");
    std::iter::once(table.text("no pods"))
        .chain(lines)
        .collect()
}
