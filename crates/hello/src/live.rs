//! The figures that change, as one JSON object.

use crate::cgroup::Cgroup;
use crate::network;
use crate::proc::{read, value};
use std::time::Instant;

/// The figures of this moment.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    memory: Option<u64>,
    memory_limit: Option<u64>,
    cpu_micros: Option<u64>,
    cpu_limit_milli: Option<u64>,
    tasks: Option<u64>,
    received: u64,
    sent: u64,
    up_millis: u128,
    requests: u64,
}

impl Figures {
    /// Reads the figures of the cgroup and the interfaces.
    pub(crate) fn read(begun: Instant, requests: u64) -> Self {
        let cgroup = Cgroup::find();
        let links = network::interfaces();
        let links = || links.iter().filter(|link| link.name != "lo");
        Self {
            memory: cgroup.memory().or_else(resident),
            memory_limit: cgroup.memory_limit(),
            cpu_micros: cgroup.cpu_micros(),
            cpu_limit_milli: cgroup.cpu_limit_milli(),
            tasks: cgroup.tasks(),
            received: links().map(|link| link.received).sum(),
            sent: links().map(|link| link.sent).sum(),
            up_millis: begun.elapsed().as_millis(),
            requests,
        }
    }

    /// The figures as JSON; what is not known is `null`.
    pub(crate) fn json(&self) -> String {
        let number =
            |value: Option<u64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
        format!(
            "{{\"memory\":{},\"memory_limit\":{},\"cpu_micros\":{},\"cpu_limit_milli\":{},\"tasks\":{},\
             \"received\":{},\"sent\":{},\"up_millis\":{},\"requests\":{}}}",
            number(self.memory),
            number(self.memory_limit),
            number(self.cpu_micros),
            number(self.cpu_limit_milli),
            number(self.tasks),
            self.received,
            self.sent,
            self.up_millis,
            self.requests
        )
    }
}

/// This process's own memory, where no cgroup tells.
fn resident() -> Option<u64> {
    let status = read("/proc/self/status")?;
    let kib: u64 = value(&status, "VmRSS")?
        .strip_suffix(" kB")?
        .trim()
        .parse()
        .ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json() {
        let figures = Figures {
            memory: Some(5),
            requests: 2,
            ..Figures::default()
        };
        assert_eq!(
            figures.json(),
            "{\"memory\":5,\"memory_limit\":null,\"cpu_micros\":null,\"cpu_limit_milli\":null,\"tasks\":null,\
             \"received\":0,\"sent\":0,\"up_millis\":0,\"requests\":2}"
        );
    }

    #[test]
    fn there_is_memory_in_use() {
        assert!(
            Figures::read(Instant::now(), 0)
                .memory
                .is_some_and(|bytes| bytes > 0)
        );
    }
}
