//! The processor time of processes.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

/// `sysconf(_SC_CLK_TCK)` is 100 on every architecture of Linux that is in use.
const TICKS_A_SECOND: f64 = 100.0;

/// What processes used up to now.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Instant,
    before: BTreeMap<u32, u64>,
}

impl Meter {
    pub(super) fn start(pids: &[u32]) -> Self {
        let used = pids
            .iter()
            .filter_map(|pid| Some((*pid, ticks(*pid).ok()?)));
        Self {
            begun: Instant::now(),
            before: used.collect(),
        }
    }

    /// Percent of one core since the start; a process that has ended counts no more.
    pub(super) fn percent(&self) -> f64 {
        let used = self
            .before
            .iter()
            .map(|(pid, before)| ticks(*pid).map_or(0, |now| now.saturating_sub(*before)));
        let used: u64 = used.sum();
        used as f64 / TICKS_A_SECOND / self.begun.elapsed().as_secs_f64() * 100.0
    }
}

/// User and system time of a process with all its threads (proc_pid_stat(5)).
fn ticks(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()
        .zip(next())
        .map(|(user, system)| user + system)
        .with_context(|| format!("read the times in {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time() {
        let meter = Meter::start(&[std::process::id()]);
        let begun = Instant::now();
        while begun.elapsed().as_millis() < 100 {
            std::hint::spin_loop();
        }
        assert!(meter.percent() > 5.0, "{}", meter.percent());
        assert!(Meter::start(&[u32::MAX]).percent() < f64::EPSILON);
    }
}
