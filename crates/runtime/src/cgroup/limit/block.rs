//! Block devices: weights and rates.

use oci::runtime::{BlockIo, ThrottleDevice};

use super::super::error::CgroupError;
use super::super::hierarchy::{Controller, Version};
use super::super::{Cgroup, Place};

const WEIGHT: &str = "a weight of block devices";
const RATE: &str = "a rate of a block device";

pub(super) fn apply(cgroup: &Cgroup, block: &BlockIo) -> Result<(), CgroupError> {
    if let Some(weight) = block.weight.filter(|&weight| weight != 0) {
        let place = super::need(cgroup, Controller::Blkio, WEIGHT, "blkio.weight")?;
        apply_weight(place, weight)?;
    }
    for (devices, v1, v2) in [
        (
            &block.throttle_read_bps_device,
            "blkio.throttle.read_bps_device",
            "rbps",
        ),
        (
            &block.throttle_write_bps_device,
            "blkio.throttle.write_bps_device",
            "wbps",
        ),
        (
            &block.throttle_read_iops_device,
            "blkio.throttle.read_iops_device",
            "riops",
        ),
        (
            &block.throttle_write_iops_device,
            "blkio.throttle.write_iops_device",
            "wiops",
        ),
    ] {
        apply_rates(cgroup, devices, v1, v2)?;
    }
    Ok(())
}

fn apply_weight(place: Place<'_>, weight: u16) -> Result<(), CgroupError> {
    match place.version {
        Version::V1 if place.has("blkio.weight") => {
            super::write(place, WEIGHT, "blkio.weight", &weight)
        }
        Version::V1 => super::write(place, WEIGHT, "blkio.bfq.weight", &weight),
        // BFQ's scale is v1's, io.weight's goes from 1 to 10000
        Version::V2 if place.has("io.bfq.weight") => {
            super::write(place, WEIGHT, "io.bfq.weight", &weight)
        }
        Version::V2 => super::write(place, WEIGHT, "io.weight", &io_weight(weight)),
    }
}

fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990
}

fn apply_rates(
    cgroup: &Cgroup,
    devices: &[ThrottleDevice],
    v1: &'static str,
    v2: &str,
) -> Result<(), CgroupError> {
    for device in devices {
        let place = super::need(cgroup, Controller::Blkio, RATE, v1)?;
        let ThrottleDevice { major, minor, rate } = device;
        match place.version {
            Version::V1 => super::write(place, RATE, v1, &format!("{major}:{minor} {rate}"))?,
            Version::V2 => {
                let rate = if *rate == 0 {
                    "max".to_owned()
                } else {
                    rate.to_string()
                };
                super::write(
                    place,
                    RATE,
                    "io.max",
                    &format!("{major}:{minor} {v2}={rate}"),
                )?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        for (weight, expect) in [(10, 1), (100, 910), (1000, 10_000)] {
            assert_eq!(io_weight(weight), expect, "{weight}");
        }
    }
}
