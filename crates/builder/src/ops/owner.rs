//! Owners by name, which an input's own files tell.

use std::os::fd::{AsFd as _, BorrowedFd};

use runtime::user::UserError;

use crate::error::{Error, Result, Step};
use crate::llb::pb;
use crate::snapshot::Snapshot;

/// Who is meant: a number, or a name in some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    User,
    Group,
}

/// The owner that an action asks for. `open` gives the tree of an input by its number.
pub(super) fn resolve(
    owner: Option<&pb::ChownOpt>,
    open: &mut dyn FnMut(i64) -> Result<Snapshot>,
) -> Result<Option<(u32, u32)>> {
    let Some(owner) = owner else { return Ok(None) };
    let user = owner.user.as_ref().and_then(|user| user.user.as_ref());
    let group = owner.group.as_ref().and_then(|group| group.user.as_ref());
    let (uid, mut gid) = match user {
        None => (0, 0),
        // a number has the group of the same number, as with Docker
        Some(pb::user_opt::User::ById(id)) => (*id, *id),
        Some(pb::user_opt::User::ByName(named)) => by_name(named, Which::User, open)?,
    };
    gid = match group {
        None => gid,
        Some(pb::user_opt::User::ById(id)) => *id,
        Some(pb::user_opt::User::ByName(named)) => by_name(named, Which::Group, open)?.1,
    };
    Ok((user.is_some() || group.is_some()).then_some((uid, gid)))
}

fn by_name(
    named: &pb::NamedUserOpt,
    which: Which,
    open: &mut dyn FnMut(i64) -> Result<Snapshot>,
) -> Result<(u32, u32)> {
    let snapshot = open(named.input)?;
    let root = snapshot.open()?;
    look_up(root.as_fd(), &named.name, which)
}

/// A name that nobody has is root's, as with BuildKit.
fn look_up(root: BorrowedFd<'_>, name: &str, which: Which) -> Result<(u32, u32)> {
    let found = match which {
        Which::User => runtime::user::resolve(root, name).map(|user| (user.uid, user.gid)),
        Which::Group => runtime::user::resolve_group(root, name).map(|gid| (0, gid)),
    };
    match found {
        Ok(owner) => Ok(owner),
        Err(UserError::NoUser { .. } | UserError::NoGroup { .. }) => Ok((0, 0)),
        Err(error @ UserError::Read { .. }) => Err(Error::system("look up an owner", &error)),
        Err(error) => Err(Error::invalid(error.to_string())),
    }
}

/// Copies a client's folder into a layer, where a layer is needed.
pub(crate) fn as_layers(
    snapshots: &crate::snapshot::Snapshots,
    snapshot: &Snapshot,
) -> Result<Snapshot> {
    if snapshot.folder().is_none() {
        return Ok(snapshot.clone());
    }
    let writable = snapshots.prepare(&Snapshot::scratch())?;
    let upper = writable.upper();
    super::copy::copy_all(snapshot, &upper).step(|| "copy a client's folder")?;
    Ok(writable.commit(crate::snapshot::LayerFacts::new("a client's folder"))?)
}
