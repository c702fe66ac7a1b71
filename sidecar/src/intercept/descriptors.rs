//! How many connections the limit of open files allows.
//!
//! Each connection of the application may need another one to a server. Were accepted ones to take all descriptors, every
//! call on them would fail for want of one; so no more are accepted than leave as many for the servers.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises this process's limit of open files as far as it may; returns it. Processes started before keep theirs.
#[must_use]
pub fn raise() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return COMMON_LIMIT;
    };
    let is_raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = if is_raised { hard } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Most connections to accept of the `wanted` ones, where `descriptors` may be open in all, with `workers` workers.
#[must_use]
pub fn connections_max(wanted: usize, descriptors: usize, workers: usize) -> usize {
    let others = (descriptors / 8).clamp(OTHERS_MIN, OTHERS_MAX) + workers * OTHERS_A_WORKER;
    let shared = descriptors.saturating_sub(others) / 2;
    wanted.min(shared.max(workers * ACCEPTED_MIN_A_WORKER))
}

/// Descriptors for what is no connection of the application's: the control API, the admin server, DNS, files, the exporter.
const OTHERS_MIN: usize = 64;
const OTHERS_MAX: usize = 512;
/// A runtime has three, and there are listeners of two kinds in two families.
const OTHERS_A_WORKER: usize = 8;
/// However few there are: each listener holds a place for the connection that comes next.
const ACCEPTED_MIN_A_WORKER: usize = 4;
/// Should the system not say: what shells give.
const COMMON_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_leaves_as_many_for_the_servers() {
        for descriptors in [64, 128, 256, 1024, 4096, 20_000, 1 << 20] {
            for workers in [1, 8, 64] {
                let accepted = connections_max(usize::MAX, descriptors, workers);
                let others = descriptors.saturating_sub(2 * accepted);
                let needed = OTHERS_MIN + workers * OTHERS_A_WORKER;
                let is_least = accepted == workers * ACCEPTED_MIN_A_WORKER;
                assert!(is_least || others >= needed, "{descriptors}");
            }
        }
    }

    #[test]
    fn no_more_than_wanted_are_accepted_and_always_some() {
        assert_eq!(connections_max(10_000, 1 << 20, 1), 10_000);
        assert_eq!(connections_max(10_000, 1024, 1), 444);
        assert_eq!(connections_max(10_000, 16, 2), 8);
        assert_eq!(connections_max(3, 1024, 1), 3);
    }

    #[test]
    fn the_limit_is_raised_to_the_hard_one() {
        let limit = raise();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
        assert_eq!(limit, usize::try_from(hard).unwrap());
    }
}
