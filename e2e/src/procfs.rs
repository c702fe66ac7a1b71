//! What `/proc` says about a process: processor time, memory, descriptors.

use std::fs;
use std::time::Duration;

/// Processor time, user and system, that all threads of a process have used.
pub fn cpu(id: u32) -> Duration {
    let mut total = 0;
    // The scheduler's own account is in nanoseconds; `stat` only in hundredths of a second.
    for thread in fs::read_dir(format!("/proc/{id}/task"))
        .expect("the process is running")
        .flatten()
    {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        total += text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Duration::from_nanos(total)
}

/// Proportional set size in KiB.
pub fn pss_kib(id: u32) -> u64 {
    let text =
        fs::read_to_string(format!("/proc/{id}/smaps_rollup")).expect("the process is running");
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .expect("smaps_rollup has a Pss line")
}

/// Resident set size in KiB.
pub fn rss_kib(id: u32) -> u64 {
    status_kib(id, "VmRSS:")
}

/// Largest resident set size that there was, in KiB.
pub fn peak_rss_kib(id: u32) -> u64 {
    status_kib(id, "VmHWM:")
}

fn status_kib(id: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/status")).expect("the process is running");
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("status has no {key} line"))
}

/// Number of open descriptors.
pub fn descriptors(id: u32) -> usize {
    fs::read_dir(format!("/proc/{id}/fd"))
        .expect("the process is running")
        .count()
}

/// Ids of the children of a process, and of theirs.
pub fn descendants(id: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Some(child) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if parent(child) == Some(id) {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

/// Whether a process exists and is not a zombie.
pub fn is_alive(id: u32) -> bool {
    state_and_parent(id).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

fn parent(id: u32) -> Option<u32> {
    state_and_parent(id).map(|(_, parent)| parent)
}

fn state_and_parent(id: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The command may hold spaces and parentheses; the fields after it do not.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
