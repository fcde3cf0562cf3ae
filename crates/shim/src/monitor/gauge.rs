//! The figures of the container's cgroup, kept open while somebody asks.

use std::time::{Duration, Instant};

use runtime::cgroup::{Cgroup, CgroupError, Meter, Stats};

/// How long nobody may ask: clients do so every second.
const KEPT: Duration = Duration::from_secs(5);

/// Open figures.
#[derive(Debug)]
pub(crate) struct Gauge {
    meter: Meter,
    asked: Instant,
}

impl Gauge {
    pub(crate) fn open(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        Ok(Self {
            meter: cgroup.meter()?,
            asked: Instant::now(),
        })
    }

    /// Reads the figures as they are now.
    pub(crate) fn read(&mut self) -> Result<Stats, CgroupError> {
        self.asked = Instant::now();
        self.meter.read()
    }

    /// When they are closed if nobody asks.
    pub(crate) fn due(&self) -> Instant {
        self.asked + KEPT
    }
}
