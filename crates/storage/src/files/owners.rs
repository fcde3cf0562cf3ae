//! Owners of a tree that are other ones in its archive: those of a container in a user namespace.

use oci::runtime::IdMapping;

/// The id that the kernel shows for those that a user namespace does not have (`fs.overflowuid`).
const NOBODY: u32 = 65534;

/// The name of file capabilities among extended attributes.
const CAPABILITY: &[u8] = b"security.capability";

/// Which owners of the tree those of the archive are. By default they are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// Users: the archive's are the container's, the tree's are the host's. Empty for the same.
    pub uids: Vec<IdMapping>,
    /// Groups, in the same way.
    pub gids: Vec<IdMapping>,
}

impl Owners {
    /// The owners in the archive of a file; who is not in the container is nobody.
    pub(super) fn in_archive(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let find = |ranges: &[IdMapping], id| {
            let found = ranges.iter().find_map(|range| range.to_container(id));
            if ranges.is_empty() {
                id
            } else {
                found.unwrap_or(NOBODY)
            }
        };
        (find(&self.uids, uid), find(&self.gids, gid))
    }

    /// The owners in the tree of an entry; none where the container has no such user or group.
    pub(super) fn in_tree(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        let find = |ranges: &[IdMapping], id| {
            let found = || ranges.iter().find_map(|range| range.to_host(id));
            if ranges.is_empty() { Some(id) } else { found() }
        };
        Some((find(&self.uids, uid)?, find(&self.gids, gid)?))
    }

    /// Takes the id of the container's root out of file capabilities: from outside the kernel shows for
    /// whom they are (capabilities(7), `VFS_CAP_REVISION_3`), and in the archive that goes without saying.
    pub(super) fn attributes(&self, attributes: &mut [(Vec<u8>, Vec<u8>)]) {
        let Some(root) = self.uids.iter().find_map(|range| range.to_host(0)) else {
            return;
        };
        for (name, value) in attributes {
            if name == CAPABILITY {
                plain_capabilities(value, root);
            }
        }
    }
}

/// Turns revision 3 with this root's id into revision 2, which has none.
fn plain_capabilities(value: &mut Vec<u8>, root: u32) {
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    const LENGTH_3: usize = 24;
    let own = value
        .last_chunk()
        .is_some_and(|id| u32::from_le_bytes(*id) == root);
    // the revision is the highest byte of the first word, whose lowest ones are flags
    if value.len() == LENGTH_3 && value.get(3) == Some(&REVISION_3) && own {
        value.truncate(LENGTH_3 - 4);
        value[3] = REVISION_2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners() -> Owners {
        let range = |host_id| IdMapping {
            container_id: 0,
            host_id,
            size: 10,
        };
        Owners {
            uids: vec![range(1000)],
            gids: vec![range(2000)],
        }
    }

    #[test]
    fn there_and_back() {
        assert_eq!(owners().in_archive((1003, 2004)), (3, 4));
        assert_eq!(owners().in_archive((0, 2010)), (NOBODY, NOBODY));
        assert_eq!(owners().in_tree((3, 4)), Some((1003, 2004)));
        assert_eq!(owners().in_tree((10, 4)), None);
        let same = Owners::default();
        assert_eq!(same.in_archive((5, 6)), (5, 6));
        assert_eq!(same.in_tree((5, u32::MAX)), Some((5, u32::MAX)));
    }

    #[test]
    fn capabilities_lose_the_root_that_is_the_containers() {
        let check = |root: u32, owners: Owners, expect: usize| {
            let mut value = vec![1, 0, 0, 3];
            value.extend([7; 16]);
            value.extend(root.to_le_bytes());
            let mut all = vec![
                (CAPABILITY.to_vec(), value.clone()),
                (b"user.x".to_vec(), value),
            ];
            owners.attributes(&mut all);
            assert_eq!((all[0].1.len(), all[1].1.len()), (expect, 24));
            assert_eq!(all[0].1[3], if expect == 20 { 2 } else { 3 });
        };
        check(1000, owners(), 20);
        check(1001, owners(), 24);
        check(1000, Owners::default(), 24);
    }
}
