//! The program: its arguments, its environment, and where it is.

use std::ffi::{CStr, CString};
use std::io;

use oci::runtime::Process;
use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

use super::StageError;
use super::process::home_of;
use crate::report::{FailureKind, kernel_text};

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The home directory of users that `/etc/passwd` does not know.
pub(super) const DEFAULT_HOME: &str = "/";

/// A program ready to run.
#[derive(Debug)]
pub(crate) struct Command {
    name: String,
    /// Where it was found.
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Command {
    /// Takes over arguments and environment.
    pub(super) fn new(process: &Process) -> Result<Self, StageError> {
        let name = process.args.first().filter(|name| !name.is_empty());
        let name = name.ok_or(StageError::Process("args must not be empty"))?;
        Ok(Self {
            name: name.clone(),
            path: CString::default(),
            args: texts(&process.args, "an argument has a NUL byte")?,
            env: texts(&process.env, "the environment has a NUL byte")?,
        })
    }

    pub(super) fn has_home(&self) -> bool {
        self.variable(b"HOME=").is_some_and(|home| !home.is_empty())
    }

    pub(super) fn set_home(&mut self, uid: u32) {
        self.env
            .retain(|text| !text.as_bytes().starts_with(b"HOME="));
        let home = CString::new(format!("HOME={}", home_of(uid)));
        self.env.extend(home);
    }

    /// Finds the program as the user that the process now is.
    pub(super) fn find(&mut self) -> Result<(), StageError> {
        if self.name.contains('/') {
            let path = CString::new(self.name.as_str()).map_err(|_| NUL)?;
            check(&path).map_err(|refusal| self.refuse(refusal))?;
            self.path = path;
            return Ok(());
        }
        let search = self.variable(b"PATH=").unwrap_or(DEFAULT_PATH);
        let found = search.split(':').find_map(|directory| {
            let directory = if directory.is_empty() { "." } else { directory };
            let path = CString::new(format!("{directory}/{}", self.name)).ok()?;
            check(&path).is_ok().then_some(path)
        });
        self.path = found.ok_or_else(|| StageError::Exec {
            text: format!("exec: {:?}: executable file not found in $PATH", self.name),
            kind: FailureKind::NotFound,
        })?;
        Ok(())
    }

    fn variable(&self, name: &[u8]) -> Option<&str> {
        // the last one counts, as for Go's os/exec
        let found = self
            .env
            .iter()
            .rev()
            .find_map(|text| text.as_bytes().strip_prefix(name));
        found.and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The texts of Go's os/exec, which Docker's clients look for.
    fn refuse(&self, refusal: Refusal) -> StageError {
        let name = &self.name;
        let (text, kind) = match refusal {
            Refusal::Stat(error) => {
                let kind = match error {
                    Errno::NOENT | Errno::NOTDIR => FailureKind::NotFound,
                    Errno::ACCESS => FailureKind::PermissionDenied,
                    _ => FailureKind::Other,
                };
                let text = kernel_text(&error.into());
                (format!("exec: {name:?}: stat {name}: {text}"), kind)
            }
            Refusal::Directory => {
                let text = format!("exec: {name:?}: is a directory");
                (text, FailureKind::PermissionDenied)
            }
            Refusal::Access => {
                let text = format!("exec: {name:?}: permission denied");
                (text, FailureKind::PermissionDenied)
            }
        };
        StageError::Exec { text, kind }
    }

    /// Becomes the program; returns only when the kernel refuses.
    pub(super) fn run(&self) -> StageError {
        let error = sys::process::execve(&self.path, &self.args, &self.env);
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FailureKind::NotFound,
            io::ErrorKind::PermissionDenied => FailureKind::PermissionDenied,
            _ => FailureKind::Other,
        };
        let path = self.path.to_string_lossy();
        StageError::Exec {
            text: format!("exec {path}: {}", kernel_text(&error)),
            kind,
        }
    }
}

const NUL: StageError = StageError::Process("an argument has a NUL byte");

/// Why a file is no program.
#[derive(Clone, Copy)]
enum Refusal {
    Stat(Errno),
    Directory,
    Access,
}

fn check(path: &CStr) -> Result<(), Refusal> {
    let stat = rustix::fs::stat(path).map_err(Refusal::Stat)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Refusal::Directory);
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        // a kernel or filter without faccessat2(2): execve will tell
        Err(Errno::NOSYS | Errno::PERM) if stat.st_mode & 0o111 != 0 => Ok(()),
        Err(_) => Err(Refusal::Access),
    }
}

fn texts(list: &[String], problem: &'static str) -> Result<Vec<CString>, StageError> {
    list.iter()
        .map(|text| CString::new(text.as_str()).map_err(|_| StageError::Process(problem)))
        .collect()
}
