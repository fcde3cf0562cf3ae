//! Memory and swap.

use oci::runtime::Memory;
use rustix::io::Errno;

use super::super::error::CgroupError;
use super::super::hierarchy::{Controller, Version};
use super::super::{Cgroup, Place, file};

const LIMIT: &str = "a limit of memory";
const RESERVATION: &str = "a reservation of memory";
const SWAP: &str = "a limit of swap";
const SWAPPINESS: &str = "swappiness";
const OOM: &str = "keeping the OOM killer away";

const V1_LIMIT: &str = "memory.limit_in_bytes";
const V1_SWAP: &str = "memory.memsw.limit_in_bytes";
const V2_LIMIT: &str = "memory.max";
const V2_SWAP: &str = "memory.swap.max";

/// The least limit that v1 tells as none: the greatest number of whole pages.
pub(crate) const UNLIMITED: u64 = 0x7fff_ffff_ffff_0000;

pub(super) fn apply(cgroup: &Cgroup, memory: &Memory) -> Result<(), CgroupError> {
    let wish = Wish::new(memory)?;
    if wish == Wish::default() {
        return Ok(());
    }
    let place = super::need(cgroup, Controller::Memory, LIMIT, V1_LIMIT)?;
    match place.version {
        Version::V1 => wish.apply_v1(place),
        Version::V2 => wish.apply_v2(place),
    }
}

/// What is asked for; zero and what the kernel does anyway are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wish {
    limit: Option<i64>,
    reservation: Option<i64>,
    /// Memory and swap together.
    swap: Option<i64>,
    swappiness: Option<u64>,
    keep_oom_killer_away: bool,
}

impl Wish {
    fn new(memory: &Memory) -> Result<Self, CgroupError> {
        let set = |value: Option<i64>| value.filter(|&value| value != 0);
        let wish = Self {
            limit: set(memory.limit),
            reservation: set(memory.reservation),
            swap: set(memory.swap),
            // Docker writes "as the host does" as -1
            swappiness: memory.swappiness.filter(|&value| value != u64::MAX),
            keep_oom_killer_away: memory.disable_oom_killer == Some(true),
        };
        if wish.swappiness.is_some_and(|value| value > 100) {
            return Err(CgroupError::Limit {
                what: "memory swappiness must be between 0 and 100",
            });
        }
        if let (Some(limit), Some(swap)) = (wish.limit, wish.swap)
            && swap > 0
            && swap < limit
        {
            return Err(CgroupError::Limit {
                what: "the limit of memory and swap must not be below the limit of memory",
            });
        }
        Ok(wish)
    }

    fn apply_v1(self, place: Place<'_>) -> Result<(), CgroupError> {
        self.apply_limits_v1(place)?;
        if let Some(reservation) = self.reservation {
            super::write(
                place,
                RESERVATION,
                "memory.soft_limit_in_bytes",
                &reservation,
            )?;
        }
        if let Some(swappiness) = self.swappiness {
            super::write(place, SWAPPINESS, "memory.swappiness", &swappiness)?;
        }
        if self.keep_oom_killer_away {
            super::write(place, OOM, "memory.oom_control", &1)?;
        }
        Ok(())
    }

    /// v1 refuses a moment at which memory's limit is above that of memory and swap together, so a limit that
    /// rises past the old sum needs the new sum first.
    fn apply_limits_v1(self, place: Place<'_>) -> Result<(), CgroupError> {
        let Some(limit) = self.limit else {
            return self.apply_swap_v1(place);
        };
        // no memory limit, no sum either
        let swap = match (limit, self.swap) {
            (-1, None) if place.has(V1_SWAP) => Some(-1),
            (_, swap) => swap,
        };
        let wish = Self { swap, ..self };
        match set_limit_v1(place, limit) {
            Err(error) if error.errno() == Some(Errno::INVAL) && swap.is_some() => {
                wish.apply_swap_v1(place)?;
                set_limit_v1(place, limit)
            }
            Err(error) => Err(error),
            Ok(()) => wish.apply_swap_v1(place),
        }
    }

    fn apply_swap_v1(self, place: Place<'_>) -> Result<(), CgroupError> {
        self.swap
            .map_or(Ok(()), |swap| super::write(place, SWAP, V1_SWAP, &swap))
    }

    fn apply_v2(self, place: Place<'_>) -> Result<(), CgroupError> {
        self.apply_swap_v2(place)?;
        if let Some(limit) = self.limit {
            super::write(place, LIMIT, V2_LIMIT, &or_max(limit))?;
        }
        if let Some(reservation) = self.reservation {
            super::write(place, RESERVATION, "memory.low", &or_max(reservation))?;
        }
        // swappiness and the OOM killer's absence are of v1; Docker warns and goes on
        Ok(())
    }

    /// v2 counts swap alone: the sum less the memory.
    fn apply_swap_v2(self, place: Place<'_>) -> Result<(), CgroupError> {
        let value = match (self.swap, self.limit) {
            (None, Some(-1)) | (Some(-1), _) => -1,
            (None, _) => return Ok(()),
            (Some(swap), Some(limit)) if limit > 0 => swap - limit,
            (Some(swap), Some(_)) => {
                return Err(CgroupError::Limit {
                    what: if swap > 0 {
                        "a limit of swap needs a limit of memory"
                    } else {
                        "a limit of swap must not be negative"
                    },
                });
            }
            (Some(swap), None) => {
                let limit = file::read_number(&place.file(V2_LIMIT))?;
                let limit = limit.and_then(|limit| i64::try_from(limit).ok());
                let limit = limit.ok_or(CgroupError::Limit {
                    what: "a limit of swap needs a limit of memory",
                })?;
                if swap < limit {
                    return Err(CgroupError::Limit {
                        what: "the limit of memory and swap must not be below the limit of memory",
                    });
                }
                swap - limit
            }
        };
        match super::write(place, SWAP, V2_SWAP, &or_max(value)) {
            // a kernel without swap gives none, which is what no swap and all of it both mean
            Err(CgroupError::Missing { .. }) if value <= 0 => Ok(()),
            other => other,
        }
    }
}

fn set_limit_v1(place: Place<'_>, limit: i64) -> Result<(), CgroupError> {
    match super::write(place, LIMIT, V1_LIMIT, &limit) {
        Err(error) if error.errno() == Some(Errno::BUSY) => {
            let usage = file::read_number(&place.file("memory.usage_in_bytes"))?;
            Err(CgroupError::MemoryInUse {
                limit,
                usage: usage.unwrap_or(0),
                source: Errno::BUSY,
            })
        }
        other => other,
    }
}

fn or_max(value: i64) -> String {
    if value < 0 {
        return "max".to_owned();
    }
    value.to_string()
}
