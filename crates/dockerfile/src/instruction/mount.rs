//! `RUN --mount=…`.

use crate::gofmt::{parse_bool, parse_size, quote};
use crate::suggest;
use crate::syntax::fields;

/// Why a mount is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The quotes do not fit.
    #[error("failed to parse csv mounts: {}", quote(.0))]
    Csv(String),
    /// A word needs a value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A key is unknown.
    #[error("unexpected key '{key}' in '{field}'{hint}")]
    Key {
        /// The key.
        key: String,
        /// The whole field.
        field: String,
        /// `(did you mean …?)`, or nothing.
        hint: String,
    },
    /// A key belongs to another type of mount.
    #[error("unexpected key '{0}' for mount type '{1}'")]
    WrongType(String, MountKind),
    /// A type is unknown.
    #[error("unsupported mount type {}{hint}", quote(.name))]
    Type {
        /// The type.
        name: String,
        /// `(did you mean …?)`, or nothing.
        hint: String,
    },
    /// A sharing mode is unknown.
    #[error("unsupported sharing value {}{hint}", quote(.name))]
    Sharing {
        /// The mode.
        name: String,
        /// `(did you mean …?)`, or nothing.
        hint: String,
    },
    /// A source with a variable.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    FromVariable,
    /// A value is none for its key.
    #[error("invalid value for {0}: {1}")]
    Value(String, String),
    /// A number is none.
    #[error("invalid value {value} for {key}")]
    Number {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A key that the type does not allow.
    #[error("{key} not allowed for {} type mounts", quote(.kind.name()))]
    NotAllowed {
        /// The key.
        key: &'static str,
        /// The type.
        kind: MountKind,
    },
    /// A secret from somewhere.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with a sharing mode.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret that is none.
    #[error("invalid secret mount. one of source, target required")]
    SecretEmpty,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretNames,
    /// A sharing mode of something else than a cache.
    #[error("invalid cache sharing set for {0} mount")]
    SharingType(MountKind),
}

/// Types of mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of a stage, an image or the context.
    #[default]
    Bind,
    /// A folder that outlives the build.
    Cache,
    /// A folder in memory.
    Tmpfs,
    /// A secret of the client's.
    Secret,
    /// The client's SSH agent.
    Ssh,
}

impl MountKind {
    const ALL: [Self; 5] = [
        Self::Bind,
        Self::Cache,
        Self::Tmpfs,
        Self::Secret,
        Self::Ssh,
    ];

    /// The name in `type=…`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

impl std::fmt::Display for MountKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How steps share a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    Shared,
    /// Each has its own.
    Private,
    /// One after the other.
    Locked,
}

/// A mount of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What it is.
    pub kind: MountKind,
    /// The stage, image or context that it shows.
    pub from: String,
    /// The path in there; of a secret its name.
    pub source: String,
    /// Where it appears.
    pub target: String,
    /// Whether writes are refused.
    pub readonly: bool,
    /// Whether the step fails without it.
    pub required: bool,
    /// Limit of a tmpfs in bytes, 0 without one.
    pub size: i64,
    /// Name of a cache, secret or agent.
    pub id: String,
    /// How steps share a cache.
    pub sharing: Option<Sharing>,
    /// The variable that a secret appears in.
    pub env: Option<String>,
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// The source of a mount as it is written, which must have no variables.
pub(super) fn source(text: &str) -> Result<String, MountError> {
    let mut from = String::new();
    for field in fields(text).ok_or_else(|| MountError::Csv(text.to_owned()))? {
        let Some((key, value)) = field.split_once('=') else {
            continue;
        };
        if key.eq_ignore_ascii_case("from") {
            if value.strip_suffix('$').unwrap_or(value).contains('$') {
                return Err(MountError::FromVariable);
            }
            value.clone_into(&mut from);
        }
    }
    Ok(from)
}

/// Reads a mount; `expand` expands the variables of its values.
pub(crate) fn parse<E: From<MountError>>(
    text: &str,
    mut expand: impl FnMut(&str) -> Result<String, E>,
) -> Result<Mount, E> {
    let mut mount = Mount::default();
    let mut readonly = None;
    for field in fields(text).ok_or_else(|| MountError::Csv(text.to_owned()))? {
        match field.split_once('=') {
            Some((key, value)) => {
                let value = expand(value)?;
                set(
                    &mut mount,
                    &mut readonly,
                    &key.to_ascii_lowercase(),
                    value,
                    &field,
                )?;
            }
            None => flag(&mut mount, &mut readonly, &field)?,
        }
    }
    mount.readonly = readonly.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
    validate(&mount)?;
    Ok(mount)
}

/// A word without a value.
fn flag(mount: &mut Mount, readonly: &mut Option<bool>, field: &str) -> Result<(), MountError> {
    match field.to_ascii_lowercase().as_str() {
        "readonly" | "ro" => *readonly = Some(true),
        "readwrite" | "rw" => *readonly = Some(false),
        "required" => {
            only(mount, "required", &[MountKind::Secret, MountKind::Ssh])?;
            mount.required = true;
        }
        _ => return Err(MountError::NoValue(field.to_owned())),
    }
    Ok(())
}

fn only(mount: &Mount, key: &str, kinds: &[MountKind]) -> Result<(), MountError> {
    if kinds.contains(&mount.kind) {
        return Ok(());
    }
    Err(MountError::WrongType(key.to_owned(), mount.kind))
}

fn set(
    mount: &mut Mount,
    readonly: &mut Option<bool>,
    key: &str,
    value: String,
    field: &str,
) -> Result<(), MountError> {
    let boolean =
        || parse_bool(&value).ok_or_else(|| MountError::Value(key.to_owned(), value.clone()));
    match key {
        "type" => mount.kind = kind(&value)?,
        "from" => mount.from = value,
        "source" | "src" => mount.source = value,
        "target" | "dst" | "destination" => mount.target = value,
        "readonly" | "ro" => *readonly = Some(boolean()?),
        "readwrite" | "rw" => *readonly = Some(!boolean()?),
        "required" => {
            only(mount, key, &[MountKind::Secret, MountKind::Ssh])?;
            mount.required = boolean()?;
        }
        "size" => {
            only(mount, key, &[MountKind::Tmpfs])?;
            mount.size =
                parse_size(&value).ok_or_else(|| MountError::Value(key.to_owned(), value))?;
        }
        "id" => mount.id = value,
        "sharing" => mount.sharing = Some(sharing(&value)?),
        "mode" => mount.mode = Some(number("mode", &value, 8)?),
        "uid" => mount.uid = Some(number("uid", &value, 10)?),
        "gid" => mount.gid = Some(number("gid", &value, 10)?),
        "env" => {
            only(mount, key, &[MountKind::Secret])?;
            mount.env = Some(value);
        }
        _ => {
            let hint = suggest::suffix(suggest::nearest(key, KEYS));
            return Err(MountError::Key {
                key: key.to_owned(),
                field: field.to_owned(),
                hint,
            });
        }
    }
    Ok(())
}

fn kind(value: &str) -> Result<MountKind, MountError> {
    let lower = value.to_ascii_lowercase();
    MountKind::ALL
        .into_iter()
        .find(|k| k.name() == lower)
        .ok_or_else(|| {
            let names = MountKind::ALL.iter().map(|k| k.name());
            let hint = suggest::suffix(suggest::nearest(value, names));
            MountError::Type {
                name: value.to_owned(),
                hint,
            }
        })
}

fn sharing(value: &str) -> Result<Sharing, MountError> {
    match value.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => {
            let near = suggest::nearest(value, ["shared", "private", "locked"]);
            Err(MountError::Sharing {
                name: value.to_owned(),
                hint: suggest::suffix(near),
            })
        }
    }
}

fn number(key: &'static str, value: &str, radix: u32) -> Result<u32, MountError> {
    let plain = !value.starts_with('+');
    let parsed = u32::from_str_radix(value, radix).ok().filter(|_| plain);
    parsed.ok_or_else(|| MountError::Number {
        key,
        value: value.to_owned(),
    })
}

fn validate(mount: &Mount) -> Result<(), MountError> {
    if matches!(mount.kind, MountKind::Bind | MountKind::Tmpfs) {
        for (key, given) in [
            ("mode", mount.mode.is_some()),
            ("uid", mount.uid.is_some()),
            ("gid", mount.gid.is_some()),
        ] {
            if given {
                return Err(MountError::NotAllowed {
                    key,
                    kind: mount.kind,
                });
            }
        }
    }
    if mount.kind == MountKind::Secret {
        if !mount.from.is_empty() {
            return Err(MountError::SecretFrom);
        }
        if mount.sharing.is_some() {
            return Err(MountError::SecretSharing);
        }
        if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            return Err(MountError::SecretEmpty);
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err(MountError::SecretNames);
        }
    }
    if mount.sharing.is_some() && mount.kind != MountKind::Cache {
        return Err(MountError::SharingType(mount.kind));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, MountError> {
        parse(text, |v| Ok(v.to_owned()))
    }

    #[test]
    fn reads_mounts() {
        let mount = read("type=cache,target=/c,id=x,sharing=locked,uid=1,gid=2,mode=0755").unwrap();
        assert_eq!(mount.kind, MountKind::Cache);
        assert_eq!(
            (mount.uid, mount.gid, mount.mode),
            (Some(1), Some(2), Some(0o755))
        );
        assert!(!mount.readonly);
        assert!(read("target=/x").unwrap().readonly);
        assert!(!read("target=/x,rw").unwrap().readonly);
        assert_eq!(read("type=tmpfs,target=/x,size=1m").unwrap().size, 1 << 20);
        assert_eq!(
            read("type=secret,id=a,env=B").unwrap().env.as_deref(),
            Some("B")
        );
        assert_eq!(read("\"target=/a,b\"").unwrap().target, "/a,b");
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, message) in [
            ("type=foo", "unsupported mount type \"foo\""),
            (
                "type=bid",
                "unsupported mount type \"bid\" (did you mean bind?)",
            ),
            (
                "targt=/x",
                "unexpected key 'targt' in 'targt=/x' (did you mean target?)",
            ),
            ("foo", "invalid field 'foo' must be a key=value pair"),
            (
                "type=cache,target=/x,sharing=foo",
                "unsupported sharing value \"foo\"",
            ),
            (
                "target=/x,mode=0755",
                "mode not allowed for \"bind\" type mounts",
            ),
            (
                "type=secret",
                "invalid secret mount. one of source, target required",
            ),
            ("type=secret,id=a,src=b", "both source and id can't be set"),
            (
                "type=tmpfs,target=/x,size=foo",
                "invalid value for size: foo",
            ),
            (
                "target=/x,size=1",
                "unexpected key 'size' for mount type 'bind'",
            ),
            (
                "target=/x,sharing=shared",
                "invalid cache sharing set for bind mount",
            ),
            ("type=cache,uid=-1", "invalid value -1 for uid"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), message, "{text}");
        }
        assert_eq!(source("type=bind,from=$x"), Err(MountError::FromVariable));
        assert_eq!(source("from=a,target=$x").unwrap(), "a");
    }
}
