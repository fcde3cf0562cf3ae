//! A file system of the kernel, made with the calls of Linux 5.2: fsopen, fsconfig, fsmount.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// A file system's parameter that the kernel refused, with the kernel's own words for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesystemError {
    /// There is no such type.
    #[error("open file system type {kind:?}")]
    Open {
        /// The type.
        kind: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A parameter.
    #[error("set {key:?} of {kind}{log}")]
    Parameter {
        /// The type.
        kind: String,
        /// The parameter's name.
        key: String,
        /// The kernel's words.
        log: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The whole.
    #[error("create {kind}{log}")]
    Create {
        /// The type.
        kind: String,
        /// The kernel's words.
        log: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl FilesystemError {
    /// Whether the kernel refused the whole as invalid, without a word on which parameter.
    pub(crate) fn is_invalid(&self) -> bool {
        let invalid = Some(Errno::INVAL.raw_os_error());
        matches!(self, Self::Create { source, .. } if source.raw_os_error() == invalid)
    }
}

/// A file system that is being configured.
#[derive(Debug)]
pub(crate) struct Filesystem<'kind> {
    kind: &'kind str,
    context: OwnedFd,
}

impl<'kind> Filesystem<'kind> {
    pub(crate) fn open(kind: &'kind str) -> Result<Self, FilesystemError> {
        match rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => Ok(Self { kind, context }),
            Err(error) => Err(FilesystemError::Open {
                kind: kind.to_owned(),
                source: error.into(),
            }),
        }
    }

    /// Sets a parameter; without a value it is a flag.
    pub(crate) fn set(&self, key: &str, value: Option<&str>) -> Result<(), FilesystemError> {
        self.try_set(key, value)
            .map_err(|error| FilesystemError::Parameter {
                kind: self.kind.to_owned(),
                key: key.to_owned(),
                log: self.log(),
                source: error.into(),
            })
    }

    /// As [`Self::set`], with the bare answer, for parameters that older kernels do not know.
    pub(crate) fn try_set(&self, key: &str, value: Option<&str>) -> Result<(), Errno> {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(self.context.as_fd(), key, value),
            None => rustix::mount::fsconfig_set_flag(self.context.as_fd(), key),
        }
    }

    /// Makes the file system and a detached mount of it.
    pub(crate) fn mount(self, attributes: MountAttrFlags) -> Result<OwnedFd, FilesystemError> {
        let make = || {
            rustix::mount::fsconfig_create(self.context.as_fd())?;
            let flags = FsMountFlags::FSMOUNT_CLOEXEC;
            rustix::mount::fsmount(self.context.as_fd(), flags, attributes)
        };
        make().map_err(|error: Errno| FilesystemError::Create {
            kind: self.kind.to_owned(),
            log: self.log(),
            source: error.into(),
        })
    }

    /// What the kernel says of the failure; it gives one message a read, with its level in front.
    fn log(&self) -> String {
        let mut text = String::new();
        let mut line = [0; 256];
        while let Ok(count) = rustix::io::read(&self.context, &mut line) {
            let message = String::from_utf8_lossy(&line[..count]);
            let message = message.trim();
            text.push_str(": ");
            text.push_str(message.get(2..).unwrap_or(message));
            if count == 0 || text.len() > 1000 {
                break;
            }
        }
        text
    }
}
