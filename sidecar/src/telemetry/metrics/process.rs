//! Facts of the process, read from `/proc` when somebody scrapes.

use std::fs;
use std::time::Duration;

/// What the system says of this process. A value that cannot be read is left out rather than guessed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessFacts {
    /// Resident memory in bytes.
    pub resident: Option<u64>,
    /// Proportional memory in bytes (Pss).
    pub proportional: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// Most descriptors that may be open.
    pub descriptors_max: Option<u64>,
    /// CPU time, user and system.
    pub cpu: Option<Duration>,
    /// Start of the process since 1970.
    pub started: Option<Duration>,
}

impl ProcessFacts {
    /// Reads them. Costs some hundred microseconds (the kernel walks all mappings for Pss): for the admin thread only.
    #[must_use]
    pub fn read() -> Self {
        let ticks = ticks_per_second();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let memory = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        let (cpu, since_boot) = times(&stat, ticks).unzip();
        Self {
            resident: kibibytes(&memory, "Rss:"),
            proportional: kibibytes(&memory, "Pss:"),
            descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                // The directory's own descriptor is not counted.
                .and_then(|entries| u64::try_from(entries.count().saturating_sub(1)).ok()),
            descriptors_max: nix::sys::resource::getrlimit(
                nix::sys::resource::Resource::RLIMIT_NOFILE,
            )
            .ok()
            .map(|(soft, _)| soft),
            cpu,
            started: since_boot
                .zip(boot_time())
                .map(|(since, boot)| boot + since),
        }
    }
}

/// The value of a line like `Pss:    1234 kB`, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

/// CPU time and start after boot, from `/proc/self/stat` (proc(5): fields 14, 15 and 22, counted after the name's `)`).
fn times(stat: &str, ticks: u64) -> Option<(Duration, Duration)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let field =
        |number: usize| -> Option<u64> { fields.split_whitespace().nth(number - 3)?.parse().ok() };
    let spent = field(14)?.checked_add(field(15)?)?;
    Some((from_ticks(spent, ticks), from_ticks(field(22)?, ticks)))
}

fn from_ticks(count: u64, ticks: u64) -> Duration {
    let millis = u128::from(count) * 1000 / u128::from(ticks.max(1));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// When the system booted, since 1970.
fn boot_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok().map(Duration::from_secs)
}

/// The unit of the kernel's times in `/proc`: `USER_HZ`, which is 100 on every Linux architecture that Rust runs on.
fn ticks_per_second() -> u64 {
    100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let facts = ProcessFacts::read();
        assert!(facts.resident.unwrap() > 100_000);
        assert!(facts.proportional.unwrap() <= facts.resident.unwrap());
        assert!(facts.descriptors.unwrap() >= 3);
        assert!(facts.descriptors_max.unwrap() >= facts.descriptors.unwrap());
        assert!(facts.started.unwrap() > Duration::from_hours(400_000));
        assert!(facts.cpu.is_some());
    }

    #[test]
    fn a_process_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 4200 1 1";
        let times = times(stat, 100).unwrap();
        assert_eq!(times, (Duration::from_secs(3), Duration::from_secs(42)));
    }

    #[test]
    fn text_that_is_no_proc_file_gives_nothing() {
        assert_eq!(times("", 100), None);
        assert_eq!(times("7 (a) S x", 100), None);
        assert_eq!(kibibytes("Pss: many kB", "Pss:"), None);
    }
}
