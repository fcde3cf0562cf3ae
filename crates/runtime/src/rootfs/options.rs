//! Mount options as `mount(8)` writes them.

use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use sys::mount::{Depth, MountChange};

/// The option of a bind mount whose source is a path in the root of another process, as
/// `x-gorae.root-of=PID`: it is looked up, and copied, in the mount namespace of that process.
pub const ROOT_OF: &str = "x-gorae.root-of";

/// What the options of one mount ask for.
#[derive(Clone, Debug)]
pub(crate) struct Options<'text> {
    /// Whether it is a bind mount, and how deep.
    pub(crate) bind: Option<Depth>,
    /// Attributes of the mount itself.
    pub(crate) change: MountChange,
    /// Attributes of the mount and all below it.
    pub(crate) deep: MountChange,
    /// Whether owners are shown as those of the container's user namespace, and how deep.
    pub(crate) idmap: Option<Depth>,
    /// Propagation, and how deep.
    pub(crate) propagation: Option<(MountPropagationFlags, Depth)>,
    /// What is for the file system.
    pub(crate) data: Vec<(&'text str, Option<&'text str>)>,
}

impl Options<'_> {
    /// The process whose root the source is in, as given; absent for the caller's.
    pub(crate) fn root_of(&self) -> Option<&str> {
        let mut given = self.data.iter().filter(|(key, _)| *key == ROOT_OF);
        given.next().map(|(_, pid)| pid.unwrap_or_default())
    }

    /// Whether any attribute changes in the mount itself.
    pub(crate) fn changes_mount(&self) -> bool {
        changes(&self.change)
    }

    /// Whether any attribute changes in the whole tree.
    pub(crate) fn changes_tree(&self) -> bool {
        changes(&self.deep)
    }
}

fn changes(change: &MountChange) -> bool {
    !change.set.is_empty() || !change.clear.is_empty()
}

/// Whether an option sets or clears an attribute.
enum Act {
    Set,
    Clear,
}

/// Reads the options of a mount.
pub(crate) fn parse(options: &[String]) -> Options<'_> {
    let mut parsed = Options {
        bind: None,
        change: MountChange::NONE,
        deep: MountChange::NONE,
        idmap: None,
        propagation: None,
        data: Vec::new(),
    };
    for option in options.iter().flat_map(|option| option.split(',')) {
        read_one(&mut parsed, option);
    }
    parsed
}

fn read_one<'text>(parsed: &mut Options<'text>, option: &'text str) {
    match option {
        "" | "defaults" => {}
        "bind" => parsed.bind = Some(parsed.bind.unwrap_or(Depth::One)),
        "rbind" => parsed.bind = Some(Depth::Tree),
        "idmap" => parsed.idmap = Some(Depth::One),
        "ridmap" => parsed.idmap = Some(Depth::Tree),
        _ => {
            if let Some(propagation) = propagation(option) {
                parsed.propagation = Some(propagation);
            } else if let Some((attribute, act)) = attribute(option) {
                apply(&mut parsed.change, attribute, &act);
            } else if let Some((attribute, act)) = option.strip_prefix('r').and_then(attribute) {
                apply(&mut parsed.deep, attribute, &act);
            } else {
                parsed.data.push(match option.split_once('=') {
                    Some((key, value)) => (key, Some(value)),
                    None => (option, None),
                });
            }
        }
    }
}

/// Reads a propagation's name, `private` or with an `r` in front for the whole tree.
pub(crate) fn propagation(name: &str) -> Option<(MountPropagationFlags, Depth)> {
    let flag = |name: &str| match name {
        "private" => Some(MountPropagationFlags::PRIVATE),
        "slave" => Some(MountPropagationFlags::DOWNSTREAM),
        "shared" => Some(MountPropagationFlags::SHARED),
        "unbindable" => Some(MountPropagationFlags::UNBINDABLE),
        _ => None,
    };
    let deep = || Some((flag(name.strip_prefix('r')?)?, Depth::Tree));
    flag(name).map(|flag| (flag, Depth::One)).or_else(deep)
}

fn attribute(name: &str) -> Option<(MountAttrFlags, Act)> {
    Some(match name {
        "ro" => (MountAttrFlags::MOUNT_ATTR_RDONLY, Act::Set),
        "rw" => (MountAttrFlags::MOUNT_ATTR_RDONLY, Act::Clear),
        "nosuid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, Act::Set),
        "suid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, Act::Clear),
        "nodev" => (MountAttrFlags::MOUNT_ATTR_NODEV, Act::Set),
        "dev" => (MountAttrFlags::MOUNT_ATTR_NODEV, Act::Clear),
        "noexec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, Act::Set),
        "exec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, Act::Clear),
        "nosymfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, Act::Set),
        "symfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, Act::Clear),
        "nodiratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, Act::Set),
        "diratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, Act::Clear),
        "noatime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, Act::Set),
        "strictatime" => (MountAttrFlags::MOUNT_ATTR_STRICTATIME, Act::Set),
        // the kernel's default, whose bit is zero; the others fall back to it
        "relatime" | "atime" | "norelatime" | "nostrictatime" => {
            (MountAttrFlags::MOUNT_ATTR__ATIME, Act::Clear)
        }
        _ => return None,
    })
}

fn apply(change: &mut MountChange, attribute: MountAttrFlags, act: &Act) {
    let time = MountAttrFlags::MOUNT_ATTR__ATIME;
    // mount_setattr(2): kinds of access time are a field, which is cleared as a whole
    if attribute.intersects(time) {
        change.set.remove(time);
        change.clear.insert(time);
    }
    match act {
        Act::Set => {
            change.clear.remove(attribute - time);
            change.set.insert(attribute);
        }
        Act::Clear => {
            change.set.remove(attribute);
            change.clear.insert(attribute);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (MountChange, MountChange) {
        let options = [text.to_owned()];
        let parsed = parse(&options);
        (parsed.change, parsed.deep)
    }

    #[test]
    fn the_last_word_wins() {
        let (change, _) = read("ro,nosuid,rw");
        assert_eq!(change.set, MountAttrFlags::MOUNT_ATTR_NOSUID);
        assert_eq!(change.clear, MountAttrFlags::MOUNT_ATTR_RDONLY);
    }

    #[test]
    fn access_times_are_one_field() {
        let (change, _) = read("strictatime,noatime");
        assert_eq!(change.set, MountAttrFlags::MOUNT_ATTR_NOATIME);
        assert_eq!(change.clear, MountAttrFlags::MOUNT_ATTR__ATIME);
        let (change, _) = read("noatime,relatime");
        assert!(change.set.is_empty());
    }

    #[test]
    fn an_r_in_front_goes_deep() {
        let (change, deep) = read("rro,nosuid");
        assert_eq!(change.set, MountAttrFlags::MOUNT_ATTR_NOSUID);
        assert_eq!(deep.set, MountAttrFlags::MOUNT_ATTR_RDONLY);
        // and these begin with an r of their own
        let (_, deep) = read("relatime,rw,ro");
        assert!(deep.set.is_empty() && deep.clear.is_empty());
    }

    #[test]
    fn data_and_propagation() {
        let options = ["size=64k", "rslave", "newinstance", "rbind"].map(str::to_owned);
        let parsed = parse(&options);
        assert_eq!(parsed.data, [("size", Some("64k")), ("newinstance", None)]);
        let expect = (MountPropagationFlags::DOWNSTREAM, Depth::Tree);
        assert_eq!(parsed.propagation, Some(expect));
        assert_eq!(parsed.bind, Some(Depth::Tree));
    }
}
