//! What the pods of a batch, and of all of a push, prove about the policy.

use super::super::report::{PodResult, pods};
use super::Stopped;

/// Whether the push may go on after a batch whose pods ended so.
pub(super) fn of_batch(results: &[PodResult]) -> Result<(), Stopped> {
    let failed = count(results, PodResult::Failed);
    if failed > 0 {
        return Err(format!(
            "{} of this batch failed; those that were written keep the new policy",
            pods(failed)
        ));
    }
    if count(results, PodResult::Gone) == results.len() {
        return Err(format!(
            "no pod of this batch is left ({} deleted meanwhile), so nobody knows how the policy fares; {AGAIN}",
            pods(results.len())
        ));
    }
    Ok(())
}

/// Whether a push that came to its end is one.
pub(super) fn of_push(results: &[PodResult]) -> Result<(), Stopped> {
    let failed = count(results, PodResult::Failed);
    if failed > 0 {
        return Err(format!(
            "{} could not be asked, and nothing was written there",
            pods(failed)
        ));
    }
    let has_it = |result: &PodResult| {
        matches!(
            result,
            PodResult::Applied | PodResult::Unchanged | PodResult::WouldChange
        )
    };
    if !results.iter().any(has_it) {
        return Err(format!("no pod is left that has the policy; {AGAIN}"));
    }
    Ok(())
}

fn count(results: &[PodResult], wanted: PodResult) -> usize {
    results.iter().filter(|result| **result == wanted).count()
}

/// What to do when pods were replaced by others.
const AGAIN: &str = "push again, which selects those that run by then";

#[cfg(test)]
mod tests {
    use super::*;
    use PodResult::{Applied, Failed, Gone, Skipped, Unchanged, WouldChange};

    #[test]
    fn a_batch_of_which_a_pod_is_left_is_proof() {
        for proof in [[Applied, Gone], [Gone, Unchanged], [WouldChange, Gone]] {
            assert_eq!(of_batch(&proof), Ok(()), "{proof:?}");
        }
    }

    #[test]
    fn a_batch_that_is_gone_or_failed_is_none() {
        let why = of_batch(&[Gone, Gone]).unwrap_err();
        assert!(
            why.contains("2 pods deleted") && why.contains("push again"),
            "{why}"
        );
        let why = of_batch(&[Applied, Failed, Gone]).unwrap_err();
        assert!(why.starts_with("1 pod of this batch failed"), "{why}");
    }

    #[test]
    fn a_push_that_nobody_has_is_none() {
        assert_eq!(of_push(&[Skipped, Gone, Applied]), Ok(()));
        assert_eq!(of_push(&[Unchanged]), Ok(()));
        for nobody in [&[Gone, Skipped][..], &[Gone], &[]] {
            let why = of_push(nobody).unwrap_err();
            assert!(why.contains("no pod is left"), "{nobody:?}: {why}");
        }
        assert!(of_push(&[Applied, Failed]).is_err());
    }
}
