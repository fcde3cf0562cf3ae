//! What processes hold in memory.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;

/// A process's name.
pub(crate) fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The processes whose parent a process is.
pub(crate) fn children(parent: u32) -> Result<Vec<u32>> {
    let all = fs::read_dir("/proc").context("read /proc")?;
    let pids = all
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter(|pid| parent_of(*pid) == Some(parent)).collect())
}

fn parent_of(pid: u32) -> Option<u32> {
    status(pid, "PPid")
}

/// The parents of containers' first processes: the processes that exist for these containers.
pub(crate) fn monitors(inits: &[u32]) -> Vec<u32> {
    let parents: BTreeSet<u32> = inits
        .iter()
        .filter_map(|pid| parent_of(*pid))
        .filter(|parent| *parent > 1)
        .collect();
    parents.into_iter().collect()
}

/// The proportional set size in bytes: what is shared counts in parts (proc_pid_smaps(5)).
pub(crate) fn proportional(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    kilobytes(&text, "Pss").with_context(|| format!("find Pss in {file}"))
}

/// The proportional set size in bytes, and what of it is anonymous: heap, stacks, written pages of files.
pub(crate) fn shares(pid: u32) -> Result<(u64, u64)> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    kilobytes(&text, "Pss")
        .zip(kilobytes(&text, "Pss_Anon"))
        .with_context(|| format!("find Pss in {file}"))
}

/// What the kernel holds for itself and cannot give up, in bytes: slab, stacks, page tables, and what is kept per processor.
pub(crate) fn kernel() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let parts = ["SUnreclaim", "KernelStack", "PageTables", "Percpu"];
    Ok(parts.iter().filter_map(|part| kilobytes(&text, part)).sum())
}

/// The resident set size in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    kilobytes(&text, "VmRSS").with_context(|| format!("find VmRSS in {file}"))
}

/// The most that was resident, in bytes, since the process began or [`forget_peak`].
pub(crate) fn peak(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    kilobytes(&text, "VmHWM").with_context(|| format!("find VmHWM in {file}"))
}

/// Sets the most that was resident to what is (proc_pid_clear_refs(5)).
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    let file = format!("/proc/{pid}/clear_refs");
    fs::write(&file, "5").with_context(|| format!("write {file}"))
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value
        .trim()
        .strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib << 10)
}

fn status(pid: u32, key: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process() {
        let own = std::process::id();
        assert!(resident(own).unwrap() >= proportional(own).unwrap() / 2);
        let (whole, anonymous) = shares(own).unwrap();
        assert!(whole > anonymous && kernel().unwrap() > whole);
        let parent = parent_of(own).unwrap();
        assert!(children(parent).unwrap().contains(&own));
    }
}
