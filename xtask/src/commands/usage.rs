//! What processes use of the machine, as Linux counts it.

use std::fs;
use std::time::Duration;

/// Of `/proc/<pid>/stat`: the kernel shows hundredths of a second to everybody, whatever it counts in.
const TICK: Duration = Duration::from_millis(10);

/// The memory of a process in KiB: its resident set, or its fair share of it where that is told.
///
/// The backends of PostgreSQL share their largest part, which is to be counted once.
pub(super) fn memory(pid: u32) -> Option<u64> {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name).map(str::to_owned))?;
        line.split_whitespace().next()?.parse().ok()
    };
    field("smaps_rollup", "Pss:").or_else(|| field("status", "VmRSS:"))
}

/// Processor time of a process and of its children that have ended and were waited for.
fn own_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u32 = fields
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<u32>().ok())
        .sum();
    Some(TICK * ticks)
}

/// A process and what it has started, directly or not.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(parent) = family.get(at) {
        let tasks = fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<u32> = children.flat_map(|list| pids(&list)).collect();
        family.extend(children);
        at += 1;
    }
    family
}

fn pids(list: &str) -> Vec<u32> {
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Processor time of a process and all its offspring.
pub(super) fn time_of_family(pid: u32) -> Option<Duration> {
    own_time(pid)?;
    Some(family(pid).into_iter().filter_map(own_time).sum())
}

/// Memory of a process and all its offspring, in KiB.
pub(super) fn memory_of_family(pid: u32) -> Option<u64> {
    memory(pid)?;
    Some(family(pid).into_iter().filter_map(memory).sum())
}

/// Megabytes, for people.
pub(super) fn megabytes(kib: Option<u64>) -> String {
    kib.map_or_else(|| "-".to_owned(), |kib| format!("{:.1} MB", kib as f64 / 1024.0))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_this_process_uses_is_found_and_grows() {
        let own = std::process::id();
        let before = time_of_family(own).unwrap();
        while time_of_family(own).unwrap() <= before {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
        assert!(memory(own).unwrap() > 100);
        assert!(memory_of_family(own).unwrap() >= memory(own).unwrap());
        assert_eq!(time_of_family(u32::MAX), None);
    }
}
