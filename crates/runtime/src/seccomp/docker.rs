//! Profiles as `docker run --security-opt seccomp=FILE` takes them.
//!
//! The format is the OCI's with rules that hold only for some capabilities, architectures and kernels. Members may
//! be `null`: Go writes its nil slices so.

use oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use serde::Deserialize;

use super::arch::Arch;

/// A profile that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not JSON, or not of a profile's form.
    #[error("decode seccomp profile")]
    Decode(#[source] serde_json::Error),
    /// It lists architectures in two ways.
    #[error(
        "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
    )]
    TwoArchitectures,
    /// A rule names its calls in two ways.
    #[error(
        "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
    )]
    TwoNames,
    /// A kernel version that is none.
    #[error("invalid kernel version {version:?} in the seccomp profile, expected \"major.minor\"")]
    KernelVersion {
        /// The text.
        version: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default)]
    default_action: Option<String>,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Architecture>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Arg>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// Reads a profile in Docker's form or the OCI's, for a container with these capabilities on this kernel.
///
/// A profile without a default action and without rules filters nothing, as Docker takes it.
///
/// # Errors
/// A profile that is not of the form.
pub fn from_docker_json(
    bytes: &[u8],
    capabilities: &[String],
    kernel: (u32, u32),
) -> Result<Seccomp, ProfileError> {
    let profile: Profile = serde_json::from_slice(bytes).map_err(ProfileError::Decode)?;
    let default_action = profile.default_action.unwrap_or_default();
    let rules = profile.syscalls.unwrap_or_default();
    if default_action.is_empty() && rules.is_empty() {
        return Ok(allow_all());
    }
    let place = Place {
        capabilities,
        kernel,
    };
    let mut syscalls = Vec::with_capacity(rules.len());
    for rule in rules {
        if place.includes(rule.includes.as_ref())? && !place.excludes(rule.excludes.as_ref())? {
            syscalls.push(rule.convert()?);
        }
    }
    Ok(Seccomp {
        default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures: architectures(profile.architectures, profile.arch_map)?,
        flags: profile.flags.unwrap_or_default(),
        syscalls,
    })
}

fn allow_all() -> Seccomp {
    Seccomp {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        architectures: super::profile::family(Arch::native()),
        ..Seccomp::default()
    }
}

fn architectures(
    plain: Option<Vec<String>>,
    map: Option<Vec<Architecture>>,
) -> Result<Vec<String>, ProfileError> {
    let plain = plain.unwrap_or_default();
    let map = map.unwrap_or_default();
    if map.is_empty() {
        return Ok(plain);
    }
    if !plain.is_empty() {
        return Err(ProfileError::TwoArchitectures);
    }
    let native = scmp_name(Arch::native());
    let Some(own) = map.into_iter().find(|entry| entry.architecture == native) else {
        return Ok(Vec::new());
    };
    let mut names = vec![own.architecture];
    names.extend(own.sub_architectures.unwrap_or_default());
    Ok(names)
}

fn scmp_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "SCMP_ARCH_X86_64",
        Arch::I386 => "SCMP_ARCH_X86",
        Arch::X32 => "SCMP_ARCH_X32",
        Arch::Aarch64 => "SCMP_ARCH_AARCH64",
    }
}

/// The name that `arches` of a rule's filter uses.
fn go_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::I386 => "x86",
        Arch::X32 => "x32",
        Arch::Aarch64 => "arm64",
    }
}

impl Rule {
    fn convert(self) -> Result<SeccompRule, ProfileError> {
        let mut names = self.names.unwrap_or_default();
        if let Some(name) = self.name.filter(|name| !name.is_empty()) {
            if !names.is_empty() {
                return Err(ProfileError::TwoNames);
            }
            names.push(name);
        }
        let args = self.args.unwrap_or_default();
        Ok(SeccompRule {
            names,
            action: self.action,
            errno_ret: self.errno_ret,
            args: args.into_iter().map(Arg::convert).collect(),
        })
    }
}

impl Arg {
    fn convert(self) -> SeccompArg {
        SeccompArg {
            index: self.index,
            value: self.value,
            value_two: self.value_two,
            op: self.op,
        }
    }
}

/// Where a profile is to hold.
struct Place<'a> {
    capabilities: &'a [String],
    kernel: (u32, u32),
}

impl Place<'_> {
    /// Whether every part of a filter agrees; no filter agrees.
    fn includes(&self, filter: Option<&Filter>) -> Result<bool, ProfileError> {
        let Some(filter) = filter else {
            return Ok(true);
        };
        let arches = filter.arches.as_deref().unwrap_or_default();
        let caps = filter.caps.as_deref().unwrap_or_default();
        let kernel = self.reaches(filter.min_kernel.as_deref())?.unwrap_or(true);
        Ok(kernel
            && (arches.is_empty() || is_named(arches))
            && caps.iter().all(|cap| self.capabilities.contains(cap)))
    }

    /// Whether any part of a filter agrees; no filter does not.
    fn excludes(&self, filter: Option<&Filter>) -> Result<bool, ProfileError> {
        let Some(filter) = filter else {
            return Ok(false);
        };
        let arches = filter.arches.as_deref().unwrap_or_default();
        let caps = filter.caps.as_deref().unwrap_or_default();
        let kernel = self.reaches(filter.min_kernel.as_deref())?.unwrap_or(false);
        Ok(kernel || is_named(arches) || caps.iter().any(|cap| self.capabilities.contains(cap)))
    }

    /// Whether the kernel is as new as a version; `None` without one.
    fn reaches(&self, version: Option<&str>) -> Result<Option<bool>, ProfileError> {
        let Some(version) = version.filter(|version| !version.is_empty()) else {
            return Ok(None);
        };
        let wrong = || ProfileError::KernelVersion {
            version: version.to_owned(),
        };
        let (major, minor) = version.split_once('.').ok_or_else(wrong)?;
        let major: u32 = major.parse().map_err(|_| wrong())?;
        let minor: u32 = minor.parse().map_err(|_| wrong())?;
        Ok(Some(self.kernel >= (major, minor)))
    }
}

fn is_named(arches: &[String]) -> bool {
    let native = go_name(Arch::native());
    arches.iter().any(|arch| arch == native)
}
