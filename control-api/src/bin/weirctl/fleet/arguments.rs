//! What can be typed about clusters.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use control_api::document::parse_length;

use super::names::{PodName, config_map, namespace};
use super::plan::Share;

/// Which pod, in which cluster.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ClusterArguments {
    /// Run the command in this pod of the kubeconfig's cluster; without NS, in the context's namespace
    #[arg(long, global = true, value_name = "[NS/]NAME")]
    pub(crate) pod: Option<PodName>,
    /// The kubeconfig's context, for --pod and push; without it, its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// How a policy is pushed.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct PushArguments {
    /// File with the policy, YAML or JSON; - is standard input
    pub(crate) file: PathBuf,
    /// The pods' namespace; without it, the context's
    #[arg(long, short, value_name = "NS", value_parser = namespace)]
    pub(crate) namespace: Option<String>,
    /// The pods' labels, as for kubectl: app=checkout
    #[arg(long, short = 'l', value_name = "SELECTOR", value_parser = selector)]
    pub(crate) selector: String,
    /// Push to this share first (10% or a number; at least one pod), and go on only if its calls end as before
    #[arg(long, value_name = "N|N%")]
    pub(crate) canary: Option<Share>,
    /// Push to so many pods at a time; without it, to all at once (after the canary)
    #[arg(long, value_name = "N|N%")]
    pub(crate) max_unavailable: Option<Share>,
    /// Watch how the calls of each batch end, as long before the push as after it, and roll all back if more fail or
    /// are shed; 0s does not. Without it 30s with --canary or --max-unavailable, else 0s
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    pub(crate) watch: Option<Duration>,
    /// Wait until each pod reports the new revision, at most so long (60s)
    #[arg(long, value_name = "LENGTH", value_parser = length, num_args = 0..=1, require_equals = true,
          default_missing_value = "60s")]
    pub(crate) wait: Option<Duration>,
    /// Then write the config map as well, from which pods start; without a name, the one that the pods mount
    #[arg(long, value_name = "CONFIGMAP", num_args = 0..=1, require_equals = true, default_missing_value = "",
          value_parser = config_map)]
    pub(crate) save: Option<String>,
    /// Only say what would change in each pod
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl PushArguments {
    /// How long calls are watched before and after each batch.
    pub(super) fn watch(&self) -> Duration {
        let staged = self.canary.is_some() || self.max_unavailable.is_some();
        let unsaid = if staged { WATCH } else { Duration::ZERO };
        if self.dry_run {
            return Duration::ZERO;
        }
        self.watch.unwrap_or(unsaid)
    }
}

/// Kubernetes takes an empty one as every pod, and a shell an unset variable as an empty one.
fn selector(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err(
            "it is empty, and would mean every pod of the namespace; if all are meant, write a label that all have, or \
             weir.dev/inject!=disabled"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn length(text: &str) -> Result<Duration, String> {
    parse_length(text)
        .filter(|length| *length <= LENGTH_MAX)
        .ok_or_else(|| "expected a length of at most 1h, such as 30s".to_owned())
}

/// Long enough for some hundred calls of a pod that is in use; short enough to be waited for.
const WATCH: Duration = Duration::from_secs(30);
/// Longest of all waits.
const LENGTH_MAX: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_selector_is_refused() {
        for empty in ["", " ", "\t\n "] {
            let why = selector(empty).unwrap_err();
            assert!(why.contains("weir.dev/inject!=disabled"), "{why}");
        }
        assert_eq!(selector("app=a, b!=c"), Ok("app=a, b!=c".to_owned()));
    }
}
