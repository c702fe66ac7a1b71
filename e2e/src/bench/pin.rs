//! The proxy on one processor, everything else on the others: so that its share does not depend on who runs beside it.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Puts this process, and what it starts from now on, onto all processors but the first.
///
/// Answers whether there are others at all; without, nothing is pinned.
pub(crate) fn leave_the_first() -> bool {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    if count < 2 {
        return false;
    }
    let mut others = CpuSet::new();
    (1..count).all(|processor| others.set(processor).is_ok())
        && sched_setaffinity(Pid::from_raw(0), &others).is_ok()
}

/// Puts every thread of a process onto the first processor.
pub(crate) fn onto_the_first(id: u32) {
    let mut first = CpuSet::new();
    first.set(0).expect("there is a first processor");
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))
        .expect("the process is running")
        .flatten()
    {
        let thread = thread
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let thread = Pid::from_raw(thread.expect("threads are numbers"));
        // A thread may have ended in between.
        sched_setaffinity(thread, &first).ok();
    }
}
