//! Files of containers: what `archive`, `changes` and `commit` say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::InvalidParameter;
use crate::query::Query;
use crate::wire::wire;

/// Name of the header that carries a [`PathStat`].
pub const STAT_HEADER: &str = "X-Docker-Container-Path-Stat";

/// Longest header that is read: a name and a link's target, each of at most one page.
const MAX_HEADER: usize = 64 * 1024;

wire! {
    /// What is at a path of a container.
    #[derive(Eq)]
    pub struct PathStat {
        /// The last name of the path, `.` and `/` included.
        "name" => name: String,
        /// Length.
        "size" => size: i64,
        /// Go's `FileMode`: permissions, and the kind in the upper bits.
        "mode" => mode: u32,
        /// Time of the last change, RFC 3339.
        "mtime" => mtime: String,
        /// Where a symbolic link leads to in the end, as a path of the container.
        "linkTarget" => link_target: String,
    }

    /// An element of `GET /containers/{id}/changes`.
    #[derive(Eq)]
    pub struct Change {
        /// Path.
        "Path" => path: String,
        /// 0 modified, 1 added, 2 deleted.
        "Kind" => kind: u8,
    }

    /// The answer of `POST /commit`.
    #[derive(Eq)]
    pub struct CommitResponse {
        /// The image's id.
        "Id" => id: String,
    }
}

/// The bits of Go's `FileMode` above the permissions.
pub mod file_mode {
    /// A directory.
    pub const DIR: u32 = 1 << 31;
    /// A symbolic link.
    pub const SYMLINK: u32 = 1 << 27;
    /// A device.
    pub const DEVICE: u32 = 1 << 26;
    /// A FIFO.
    pub const FIFO: u32 = 1 << 25;
    /// A socket.
    pub const SOCKET: u32 = 1 << 24;
    /// Set-user-id.
    pub const SETUID: u32 = 1 << 23;
    /// Set-group-id.
    pub const SETGID: u32 = 1 << 22;
    /// A character device.
    pub const CHAR_DEVICE: u32 = 1 << 21;
    /// The sticky bit.
    pub const STICKY: u32 = 1 << 20;

    /// Go's mode of a file from its `st_mode` (inode(7)).
    #[must_use]
    pub fn of(mode: u32) -> u32 {
        let kind = match mode & 0o170_000 {
            0o040_000 => DIR,
            0o120_000 => SYMLINK,
            0o060_000 => DEVICE,
            0o020_000 => DEVICE | CHAR_DEVICE,
            0o010_000 => FIFO,
            0o140_000 => SOCKET,
            _ => 0,
        };
        let special = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];
        let special = special.iter().filter(|(bit, _)| mode & bit != 0);
        special.fold(kind | mode & 0o777, |all, (_, bit)| all | bit)
    }
}

impl PathStat {
    /// The header's value: JSON in base64.
    #[must_use]
    pub fn to_header(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads the header's value.
    pub fn from_header(value: &str) -> Result<Self, InvalidParameter> {
        let invalid = |why: &str| InvalidParameter(format!("invalid {STAT_HEADER} header: {why}"));
        if value.len() > MAX_HEADER {
            return Err(invalid("too long"));
        }
        let json = STANDARD
            .decode(value.trim())
            .map_err(|error| invalid(&error.to_string()))?;
        serde_json::from_slice(&json).map_err(|error| invalid(&error.to_string()))
    }
}

/// Parameters of `PUT /containers/{id}/archive`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extract {
    /// The directory to extract to.
    pub path: String,
    /// Whether a directory and something else must not take each other's place.
    pub no_overwrite_dir_non_dir: bool,
    /// Whether the files become the container's user's.
    pub copy_uid_gid: bool,
}

impl Extract {
    /// Reads the parameters.
    #[must_use]
    pub fn from_query(query: &Query) -> Self {
        Self {
            path: query.get("path").to_owned(),
            no_overwrite_dir_non_dir: query.bool("noOverwriteDirNonDir"),
            copy_uid_gid: query.bool("copyUIDGID"),
        }
    }
}

/// Parameters of `POST /commit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The container.
    pub container: String,
    /// The image's name; it has none when empty.
    pub repo: String,
    /// Its tag.
    pub tag: String,
    /// The remark in its history.
    pub comment: String,
    /// Who has made it.
    pub author: String,
    /// Whether the container is paused meanwhile.
    pub pause: bool,
    /// Dockerfile instructions to apply to the configuration.
    pub changes: Vec<String>,
}

impl Commit {
    /// Reads the parameters.
    #[must_use]
    pub fn from_query(query: &Query) -> Self {
        let text = |key: &str| query.get(key).to_owned();
        Self {
            container: text("container"),
            repo: text("repo"),
            tag: text("tag"),
            comment: text("comment"),
            author: text("author"),
            // like dockerd: an empty value is no value
            pause: text("pause").is_empty() || query.bool("pause"),
            changes: query.all("changes").to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_dockers() {
        let stat = PathStat {
            name: "link".into(),
            size: 4,
            mode: file_mode::of(0o120_777),
            mtime: "2026-11-21T17:20:52Z".into(),
            link_target: "/data/file".into(),
        };
        let json = r#"{"name":"link","size":4,"mode":134218239,"mtime":"2026-11-21T17:20:52Z","linkTarget":"/data/file"}"#;
        assert_eq!(stat.to_header(), STANDARD.encode(json));
        assert_eq!(PathStat::from_header(&stat.to_header()).unwrap(), stat);
        for bad in ["%", "bm8=", &"a".repeat(MAX_HEADER + 1)] {
            assert!(PathStat::from_header(bad).is_err());
        }
    }

    #[test]
    fn modes_are_gos() {
        // as dockerd 28.5 tells them
        for (mode, go) in [
            (0o040_755, 2_147_484_141_u32),
            (0o100_644, 420),
            (0o041_777, 2_148_532_735),
            (0o104_755, 8_389_101),
            (0o020_666, DEVICE_666),
        ] {
            assert_eq!(file_mode::of(mode), go, "{mode:o}");
        }
    }

    const DEVICE_666: u32 = 69_206_454;

    #[test]
    fn pause_is_on_unless_told_otherwise() {
        for (query, pause) in [
            ("", true),
            ("pause=", true),
            ("pause=0", false),
            ("pause=1", true),
        ] {
            let query = Query::parse(query).unwrap();
            assert_eq!(Commit::from_query(&query).pause, pause, "{query:?}");
        }
    }
}
