//! User namespaces: which ids of the host the users of a container are.
//!
//! With `userns-remap` all containers that do not say otherwise share one range of the user it names.
//! With `--userns=auto` a container has a range that no other one has, from the same user's, for as long
//! as it exists. Files on the disk keep the owners that they have inside, whatever the range.

mod subid;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use api::host_config::HostConfig;
use oci::ContainerId;
use oci::runtime::IdMapping;
use serde::{Deserialize, Serialize};

use crate::container::{Container, Record, lock};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};
use subid::{Files, Owner, Range};

/// How many ids a container has: what images use, nobody (65534) among them.
const SIZE: u32 = 65536;

/// Which ids of the host the users and groups of a container are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMaps {
    /// Those of users.
    pub(crate) uids: Vec<IdMapping>,
    /// Those of groups.
    pub(crate) gids: Vec<IdMapping>,
}

impl IdMaps {
    /// Those of a process; none where it has the host's own.
    pub(crate) fn of_process(pid: i32) -> Result<Option<Self>> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            let text = std::fs::read_to_string(&path);
            text.map(|text| parse_map(&text))
                .step(|| format!("read {path}"))
        };
        let maps = Self {
            uids: read("uid_map")?,
            gids: read("gid_map")?,
        };
        let whole = |ranges: &[IdMapping]| matches!(ranges, [one] if one.container_id == one.host_id && one.size == u32::MAX);
        Ok(Some(maps).filter(|maps| !(whole(&maps.uids) && whole(&maps.gids))))
    }
}

fn parse_map(text: &str) -> Vec<IdMapping> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let mut next = || words.next()?.parse().ok();
        Some(IdMapping {
            container_id: next()?,
            host_id: next()?,
            size: next()?,
        })
    };
    text.lines().filter_map(line).collect()
}

/// The users that a container has, and whose namespace it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Users {
    pub(crate) maps: IdMaps,
    /// The init whose user namespace is joined.
    pub(crate) join: Option<i32>,
}

/// What a container's `--userns` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Whatever the engine's setting says.
    Default,
    /// The host's users.
    Host,
    /// A range of its own.
    Auto,
}

impl Mode {
    pub(crate) fn of(host: &HostConfig) -> Result<Self> {
        match host.userns_mode.as_str() {
            "" | "private" => Ok(Self::Default),
            "host" => Ok(Self::Host),
            "auto" => Ok(Self::Auto),
            other => Err(Error::invalid(format!(
                "invalid user namespace mode: {other}"
            ))),
        }
    }
}

/// The ids that the user of `userns-remap` may give away.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pool {
    user: String,
    uids: Vec<Range>,
    gids: Vec<Range>,
}

impl Pool {
    /// The ids of a slot, `SIZE` of them each.
    fn slot(&self, number: u32) -> Option<IdMaps> {
        Some(IdMaps {
            uids: slice(&self.uids, number)?,
            gids: slice(&self.gids, number)?,
        })
    }

    /// The first ids, even if they are not as many as images may use.
    fn shared(&self) -> IdMaps {
        let first = |ranges: &[Range]| slice(ranges, 0).unwrap_or_else(|| pieces(ranges, 0));
        IdMaps {
            uids: first(&self.uids),
            gids: first(&self.gids),
        }
    }
}

/// The part of ranges, taken one after another, that is a whole slot.
fn slice(ranges: &[Range], number: u32) -> Option<Vec<IdMapping>> {
    let found = pieces(ranges, u64::from(number) * u64::from(SIZE));
    let count: u32 = found.iter().map(|piece| piece.size).sum();
    (count == SIZE).then_some(found)
}

/// What follows the first `skipped` ids, up to a slot of it.
fn pieces(ranges: &[Range], skipped: u64) -> Vec<IdMapping> {
    let (mut skip, mut found, mut next) = (skipped, Vec::new(), 0);
    for range in ranges {
        let left_out = u32::try_from(skip.min(u64::from(range.count))).unwrap_or(range.count);
        skip -= u64::from(left_out);
        let size = (range.count - left_out).min(SIZE - next);
        if size > 0 {
            found.push(IdMapping {
                container_id: next,
                host_id: range.first + left_out,
                size,
            });
            next += size;
        }
    }
    found
}

/// The user namespaces of an engine.
#[derive(Debug, Default)]
pub(crate) struct Userns {
    /// The range of containers that do not say, with `userns-remap`.
    shared: Option<IdMaps>,
    pool: Option<Pool>,
    /// The ranges that containers have of their own.
    taken: Mutex<BTreeMap<ContainerId, IdMaps>>,
}

impl Userns {
    /// Looks up the user of the setting.
    pub(crate) fn open(setting: Option<&str>) -> Result<Self> {
        Self::open_in(setting, &Files::of(Path::new("/etc")))
    }

    fn open_in(setting: Option<&str>, files: &Files) -> Result<Self> {
        let setting = setting.filter(|text| !text.is_empty());
        let Some(text) = setting else {
            // for containers that want a range of their own nevertheless
            let (user, group) = default_owners();
            return Ok(Self {
                pool: pool(&user, &group, files).ok(),
                ..Self::default()
            });
        };
        if text == "default" {
            subid::ensure_default(files)?;
        }
        let (user, group) = owners(text, files)?;
        if user.name == "root" {
            tracing::warn!("root cannot be remapped with itself: user namespaces are off");
            return Ok(Self::default());
        }
        let pool = pool(&user, &group, files)?;
        Ok(Self {
            shared: Some(pool.shared()),
            pool: Some(pool),
            ..Self::default()
        })
    }

    /// Whether containers that do not say have users of their own.
    pub(crate) fn is_default(&self) -> bool {
        self.shared.is_some()
    }

    /// Takes over the ranges of containers that are there.
    pub(crate) fn take_over<'a>(&self, containers: impl IntoIterator<Item = &'a Container>) {
        let mut taken = lock(&self.taken);
        for container in containers {
            if let Some(maps) = container.record().userns.clone() {
                taken.insert(container.id.clone(), maps);
            }
        }
    }

    /// A range for one container alone.
    fn allocate(&self, id: &ContainerId) -> Result<IdMaps> {
        let Some(pool) = &self.pool else {
            return Err(Error::invalid(format!(
                "--userns=auto: there are no ranges of ids to give away: start the engine with userns-remap=default, or give {} ranges in /etc/subuid and /etc/subgid",
                subid::DEFAULT_USER
            )));
        };
        let mut taken = lock(&self.taken);
        // the first one is of those that share
        let slots = (1..).map_while(|number| pool.slot(number));
        let free = { slots }.find(|maps| !taken.values().any(|other| overlap(maps, other)));
        let maps = free.ok_or_else(|| {
            Error::conflict(format!(
                "--userns=auto: all ranges of {SIZE} ids that {} has in /etc/subuid and /etc/subgid are taken by {} containers: remove some, or add a range",
                pool.user,
                taken.len()
            ))
        })?;
        taken.insert(id.clone(), maps.clone());
        Ok(maps)
    }

    /// Gives back a removed container's range.
    pub(crate) fn release(&self, id: &ContainerId) {
        lock(&self.taken).remove(id);
    }

    /// The range that a new container keeps, if it is to have one of its own.
    pub(crate) fn settle(&self, id: &ContainerId, host: &HostConfig) -> Result<Option<IdMaps>> {
        match Mode::of(host)? {
            Mode::Auto => self.allocate(id).map(Some),
            Mode::Default | Mode::Host => Ok(None),
        }
    }

    /// Refuses what cannot be with users of one's own, in dockerd's words.
    pub(crate) fn check(&self, host: &HostConfig) -> Result<()> {
        let mapped = match Mode::of(host)? {
            Mode::Host => false,
            Mode::Default => self.is_default(),
            Mode::Auto => true,
        };
        if !mapped {
            return Ok(());
        }
        if host.privileged {
            return Err(Error::invalid(
                "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
            ));
        }
        if host.network_mode == "host" {
            return Err(Error::invalid(
                "cannot share the host's network namespace when user namespaces are enabled",
            ));
        }
        if host.pid_mode == "host" {
            return Err(Error::invalid(
                "cannot share the host PID namespace when user namespaces are enabled",
            ));
        }
        let joins = [&host.pid_mode, &host.ipc_mode, &host.network_mode];
        if host.userns_mode == "auto" && joins.iter().any(|mode| mode.starts_with("container:")) {
            return Err(Error::invalid(
                "conflicting options: --userns=auto and the namespaces of another container, which has its users",
            ));
        }
        Ok(())
    }
}

fn overlap(one: &IdMaps, other: &IdMaps) -> bool {
    let meet = |a: &IdMapping, b: &IdMapping| {
        let end = |r: &IdMapping| u64::from(r.host_id) + u64::from(r.size);
        u64::from(a.host_id) < end(b) && u64::from(b.host_id) < end(a)
    };
    let any = |a: &[IdMapping], b: &[IdMapping]| a.iter().any(|a| b.iter().any(|b| meet(a, b)));
    any(&one.uids, &other.uids) || any(&one.gids, &other.gids)
}

fn default_owners() -> (Owner, Owner) {
    let owner = || Owner {
        name: subid::DEFAULT_USER.to_owned(),
        id: None,
    };
    (owner(), owner())
}

/// Whom a setting `default`, `user[:group]` or `uid[:gid]` means.
fn owners(text: &str, files: &Files) -> Result<(Owner, Owner)> {
    if text == "default" {
        return Ok(default_owners());
    }
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let passwd = subid::read(&files.passwd)?;
    let subuid = subid::read(&files.subuid)?;
    let user = named(&passwd, &subuid, user)
        .ok_or_else(|| Error::invalid(format!("userns-remap: there is no user {user:?}")))?;
    let Some(group) = group else {
        let group = Owner {
            name: user.name.clone(),
            id: user.id,
        };
        return Ok((user, group));
    };
    let groups = subid::read(&files.group)?;
    let subgid = subid::read(&files.subgid)?;
    let group = named(&groups, &subgid, group)
        .ok_or_else(|| Error::invalid(format!("userns-remap: there is no group {group:?}")))?;
    Ok((user, group))
}

/// Somebody with an account, or at least with ranges.
fn named(accounts: &str, ranges: &str, wanted: &str) -> Option<Owner> {
    let bare = || {
        let owner = Owner {
            name: wanted.to_owned(),
            id: None,
        };
        (!subid::ranges(ranges, &owner).is_empty()).then_some(owner)
    };
    subid::account(accounts, wanted).or_else(bare)
}

fn pool(user: &Owner, group: &Owner, files: &Files) -> Result<Pool> {
    let missing = |kind: &str, owner: &Owner, path: &Path| {
        Error::invalid(format!(
            "Can't create ID mappings: No {kind} ranges found for {} {:?} in {}",
            if kind == "subuid" { "user" } else { "group" },
            owner.name,
            path.display()
        ))
    };
    let uids = subid::ranges(&subid::read(&files.subuid)?, user);
    if uids.is_empty() {
        return Err(missing("subuid", user, &files.subuid));
    }
    let text = subid::read(&files.subgid)?;
    let mut gids = subid::ranges(&text, group);
    if gids.is_empty() {
        // the ranges of groups are kept by the names of users (subgid(5))
        gids = subid::ranges(&text, user);
    }
    if gids.is_empty() {
        return Err(missing("subgid", group, &files.subgid));
    }
    Ok(Pool {
        user: user.name.clone(),
        uids,
        gids,
    })
}

impl Engine {
    /// The users of a container that is to start, and of whose inits it joins namespaces; none where
    /// they are the host's.
    pub(crate) fn users_of(&self, record: &Record, donors: &[i32]) -> Result<Option<Users>> {
        let mode = Mode::of(&record.host)?;
        if mode == Mode::Host {
            return Ok(None);
        }
        if let Some((first, rest)) = donors.split_first() {
            return join_users(*first, rest);
        }
        let maps = match mode {
            Mode::Auto => record.userns.clone(),
            Mode::Default | Mode::Host => self.userns.shared.clone(),
        };
        if maps.is_none() && mode == Mode::Auto {
            return Err(Error::internal(format!(
                "container {} has lost its range of ids",
                record.id
            )));
        }
        Ok(maps.map(|maps| Users { maps, join: None }))
    }
}

/// The users of the container whose namespaces are joined: who is in one of its namespaces and in no user
/// namespace above may do nothing there.
fn join_users(first: i32, rest: &[i32]) -> Result<Option<Users>> {
    let namespace = |pid: i32| {
        let path = format!("/proc/{pid}/ns/user");
        std::fs::read_link(&path).step(|| format!("look at {path}"))
    };
    let own = namespace(first)?;
    for pid in rest {
        if namespace(*pid)? != own {
            return Err(Error::conflict(
                "cannot join namespaces of containers that are in different user namespaces",
            ));
        }
    }
    let maps = IdMaps::of_process(first)?;
    Ok(maps.map(|maps| Users {
        maps,
        join: Some(first),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Files {
        let files = Files::of(dir);
        let passwd = "root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\npoor:x:1001:1001::/:\n";
        std::fs::write(&files.passwd, passwd).unwrap();
        std::fs::write(&files.group, "web:x:1000:\nstaff:x:50:\n").unwrap();
        let uids = "web:100000:40000\nweb:200000:100000\ndigits:5:65536\nroot:1:2\n";
        std::fs::write(&files.subuid, uids).unwrap();
        std::fs::write(
            &files.subgid,
            "1000:300000:400000\nstaff:900000:65536\ndigits:5:65536\n",
        )
        .unwrap();
        files
    }

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping {
            container_id,
            host_id,
            size,
        }
    }

    #[test]
    fn settings_name_somebody() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let uids = vec![map(0, 100_000, 40_000), map(40_000, 200_000, 25_536)];
        for (text, gid) in [
            ("web", 300_000),
            ("1000", 300_000),
            ("web:web", 300_000),
            ("1000:1000", 300_000),
            ("web:staff", 900_000),
            ("web:50", 900_000),
        ] {
            let shared = Userns::open_in(Some(text), &files).unwrap().shared.unwrap();
            assert_eq!(shared.uids, uids, "{text}");
            assert_eq!(shared.gids, [map(0, gid, SIZE)], "{text}");
        }
        // without an account, but with ranges
        assert!(
            Userns::open_in(Some("digits"), &files)
                .unwrap()
                .is_default()
        );
        assert!(!Userns::open_in(Some("root"), &files).unwrap().is_default());
        assert!(!Userns::open_in(None, &files).unwrap().is_default());
        for (text, expect) in [
            ("nobody", "userns-remap: there is no user \"nobody\""),
            ("77", "userns-remap: there is no user \"77\""),
            ("web:nobody", "userns-remap: there is no group \"nobody\""),
            (
                "poor",
                "Can't create ID mappings: No subuid ranges found for user \"poor\" in ",
            ),
        ] {
            let error = Userns::open_in(Some(text), &files).unwrap_err();
            assert!(error.message().starts_with(expect), "{}", error.message());
        }
    }

    #[test]
    fn the_default_user_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let userns = Userns::open_in(Some("default"), &files).unwrap();
        assert_eq!(userns.shared.unwrap().uids.len(), 1);
        // and then its ranges are there for who wants one of its own only
        let userns = Userns::open_in(None, &files).unwrap();
        assert!(userns.pool.is_some() && userns.shared.is_none());
    }

    #[test]
    fn each_container_has_its_own_until_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let userns = Userns::open_in(Some("web"), &files(dir.path())).unwrap();
        let ids: Vec<ContainerId> = ["a", "b", "c"]
            .map(|letter| letter.repeat(64).parse().unwrap())
            .into();
        let first = userns.allocate(&ids[0]).unwrap();
        assert_eq!(first.uids, [map(0, 225_536, SIZE)]);
        assert_eq!(first.gids, [map(0, 365_536, SIZE)]);
        assert!(!overlap(&first, userns.shared.as_ref().unwrap()));
        // 140000 ids of users are two containers' and a rest
        let error = userns.allocate(&ids[1]).unwrap_err();
        assert!(
            error.message().contains("are taken by 1 containers"),
            "{}",
            error.message()
        );
        userns.release(&ids[0]);
        assert_eq!(userns.allocate(&ids[2]).unwrap(), first);
    }

    #[test]
    fn what_dockerd_refuses_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let on = Userns::open_in(Some("web"), &files(dir.path())).unwrap();
        let off = Userns::default();
        let with = |change: fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            change(&mut host);
            host
        };
        type Change = fn(&mut HostConfig);
        let cases: [(Change, &str); 3] = [
            (
                |host| host.privileged = true,
                "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
            ),
            (
                |host| host.network_mode = "host".into(),
                "cannot share the host's network namespace when user namespaces are enabled",
            ),
            (
                |host| host.pid_mode = "host".into(),
                "cannot share the host PID namespace when user namespaces are enabled",
            ),
        ];
        for (change, expect) in cases {
            let mut host = with(change);
            assert_eq!(on.check(&host).unwrap_err().message(), expect);
            assert!(off.check(&host).is_ok());
            host.userns_mode = "host".into();
            assert!(on.check(&host).is_ok());
            host.userns_mode = "auto".into();
            assert_eq!(off.check(&host).unwrap_err().message(), expect);
        }
        let bad = with(|host| host.userns_mode = "x".into());
        assert_eq!(
            off.check(&bad).unwrap_err().message(),
            "invalid user namespace mode: x"
        );
    }

    #[test]
    fn the_hosts_own_map_is_none() {
        let own = IdMaps::of_process(i32::try_from(std::process::id()).unwrap());
        assert_eq!(own.unwrap(), None);
        let text = "         0     100000      65536\n     65536          7          1\n";
        assert_eq!(parse_map(text), [map(0, 100_000, 65536), map(65536, 7, 1)]);
    }
}
