//! The last steps before the program.

use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

use super::StageError;
use super::command::Command;
use crate::capabilities::{ApplyError, Sets};
use crate::seccomp::Program;

/// A process that has its user and its files, and still the permission to finish.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(super) command: Command,
    pub(super) sets: Sets,
    pub(super) filter: Option<Program>,
    pub(super) no_new_privileges: bool,
    /// Whether standard input is the session's terminal.
    pub(super) terminal: bool,
}

impl Launch {
    /// Becomes the program; an error is all that can come back.
    pub(crate) fn go(&self) -> Result<(), StageError> {
        // nothing but the standard streams goes into the program, whatever was forgotten
        sys::process::close_from_at_exec(3).map_err(StageError::Stdio)?;
        self.confine()?;
        Err(self.command.run())
    }

    /// Gives up what the program may not have, the filter as late as it can be loaded.
    pub(super) fn confine(&self) -> Result<(), StageError> {
        if self.no_new_privileges {
            self.drop_capabilities()?;
            return self.load_filter();
        }
        // seccomp(2): without no_new_privs a filter needs CAP_SYS_ADMIN, which a change of user
        // has left in the permitted set only
        if self.filter.is_some() {
            raise_effective().map_err(StageError::Capabilities)?;
        }
        self.load_filter()?;
        self.drop_capabilities()
    }

    fn load_filter(&self) -> Result<(), StageError> {
        match &self.filter {
            Some(filter) => filter.load(0).map_err(StageError::FilterLoad),
            None => Ok(()),
        }
    }

    fn drop_capabilities(&self) -> Result<(), StageError> {
        let dropped = self.sets.apply_after_setuid();
        dropped.map_err(StageError::Capabilities)
    }
}

fn raise_effective() -> Result<(), ApplyError> {
    let own = capabilities(None).map_err(ApplyError::Set)?;
    if own.effective == own.permitted {
        return Ok(());
    }
    let sets = CapabilitySets {
        effective: own.permitted,
        ..own
    };
    set_capabilities(None, sets).map_err(ApplyError::Set)
}
