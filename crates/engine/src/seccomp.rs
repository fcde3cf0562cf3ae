//! Compiled system call filters, one for each distinct profile, as sealed memory files.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use api::host_config::HostConfig;

use crate::container::lock;
use crate::error::{Error, Result, Step};

/// Most filters kept; the least that a hostile client can make is one a request.
const KEPT: usize = 64;
/// The longest profile that a client may send.
const PROFILE_MAX: usize = 1 << 20;

/// The cache: profile (its text, and the capabilities it depends on) to compiled filter.
#[derive(Debug, Default)]
pub(crate) struct Filters(Mutex<HashMap<Key, Arc<OwnedFd>>>);

/// A profile's text, absent for the default one, and the capabilities that it depends on.
type Key = (Option<String>, Vec<String>);

impl Filters {
    /// The filter of a container with these capabilities; none when it is unconfined. The default is for
    /// those that name no profile.
    pub(crate) fn of(
        &self,
        host: &HostConfig,
        capabilities: &[String],
        default: Option<&str>,
    ) -> Result<Option<Arc<OwnedFd>>> {
        let chosen = crate::container::spec::option(host, "seccomp");
        // a privileged container has none unless it asks
        let default = default.filter(|_| !host.privileged);
        let chosen = chosen.or(default).filter(|profile| *profile != "builtin");
        if chosen == Some("unconfined") || (host.privileged && chosen.is_none()) {
            return Ok(None);
        }
        let key = (chosen.map(str::to_owned), capabilities.to_vec());
        if let Some(filter) = lock(&self.0).get(&key) {
            return Ok(Some(Arc::clone(filter)));
        }
        let filter = Arc::new(compile(chosen, capabilities)?);
        let mut cache = lock(&self.0);
        if cache.len() >= KEPT {
            cache.clear();
        }
        cache.insert(key, Arc::clone(&filter));
        Ok(Some(filter))
    }
}

fn compile(profile: Option<&str>, capabilities: &[String]) -> Result<OwnedFd> {
    let kernel = kernel();
    let profile = match profile {
        None => runtime::seccomp::default_profile(capabilities, kernel),
        Some(text) if text.len() > PROFILE_MAX => {
            return Err(Error::invalid(
                "decoding seccomp profile failed: it is longer than 1 MiB",
            ));
        }
        Some(text) => runtime::seccomp::from_docker_json(text.as_bytes(), capabilities, kernel)
            .map_err(|e| {
                Error::invalid(format!(
                    "decoding seccomp profile failed: {}",
                    crate::error::chain(&e)
                ))
            })?,
    };
    let program = runtime::seccomp::compile(&profile).map_err(|e| {
        Error::invalid(format!(
            "compile seccomp profile: {}",
            crate::error::chain(&e)
        ))
    })?;
    let bytes = program.to_bytes();
    sys::memfd::sealed("seccomp", sys::memfd::Purpose::Data, &mut bytes.as_slice())
        .step(|| "keep a compiled seccomp filter")
}

/// Major and minor version of the running kernel.
pub(crate) fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
