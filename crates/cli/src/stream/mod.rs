//! The streams of a container on the user's terminal: input with detach keys, output of both kinds, signals and sizes.

mod detach;
mod input;
mod session;
mod signals;

pub(crate) use detach::DetachKeys;
pub(crate) use session::{Ended, Session, Target, resize};
pub(crate) use signals::Signals;
