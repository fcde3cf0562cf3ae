//! The database's tables, and the steps that change several of them together.

use std::sync::Arc;

use oci::Digest;
use redb::{
    Database, ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction,
};

use super::DbError;
use super::events::EVENTS;
use super::records::{Manifest, Referrer};
use crate::name::{Name, Tag};

type Pair = (&'static str, &'static str);
type Triple = (&'static str, &'static str, &'static str);

/// Repository to the time it was first written to.
const REPOSITORIES: TableDefinition<'static, &str, u64> = TableDefinition::new("repositories");
/// Digest to length, of all that is in the content store.
const CONTENT: TableDefinition<'static, &str, u64> = TableDefinition::new("content");
/// Repository and digest to length and time: the blobs that may be read through a repository.
const LINKS: TableDefinition<'static, Pair, (u64, u64)> = TableDefinition::new("links");
/// Digest and repository: whose content it is, as blob or as manifest.
const HOLDERS: TableDefinition<'static, Pair, ()> = TableDefinition::new("holders");
/// Repository and digest to manifest.
const MANIFESTS: TableDefinition<'static, Pair, &[u8]> = TableDefinition::new("manifests");
/// Repository, tag in lower case, tag, to digest and time: the specification's order of tags.
const TAGS: TableDefinition<'static, Triple, (&str, u64)> = TableDefinition::new("tags");
/// Repository, digest, tag: the tags of a manifest.
const TAGGED: TableDefinition<'static, Triple, ()> = TableDefinition::new("tagged");
/// Repository, subject, digest to descriptor.
const REFERRERS: TableDefinition<'static, Triple, &[u8]> = TableDefinition::new("referrers");
/// Repository, digest, manifest: which manifests refer to it.
const USES: TableDefinition<'static, Triple, ()> = TableDefinition::new("uses");
/// Repository, or nothing for all content, to bytes.
const USAGE: TableDefinition<'static, &str, u64> = TableDefinition::new("usage");

/// The key of [`USAGE`] that no repository can have.
const ALL: &str = "";

pub(super) fn create(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    drop(open_all(&transaction)?);
    transaction.commit()?;
    Ok(())
}

/// The tables in a write transaction.
pub(crate) struct Tables<'t> {
    repositories: Table<'t, &'static str, u64>,
    content: Table<'t, &'static str, u64>,
    links: Table<'t, Pair, (u64, u64)>,
    holders: Table<'t, Pair, ()>,
    manifests: Table<'t, Pair, &'static [u8]>,
    tags: Table<'t, Triple, (&'static str, u64)>,
    tagged: Table<'t, Triple, ()>,
    referrers: Table<'t, Triple, &'static [u8]>,
    uses: Table<'t, Triple, ()>,
    usage: Table<'t, &'static str, u64>,
    pub(super) events: Table<'t, (&'static str, u64), &'static [u8]>,
}

fn open_all(transaction: &WriteTransaction) -> Result<Tables<'_>, TableError> {
    Ok(Tables {
        repositories: transaction.open_table(REPOSITORIES)?,
        content: transaction.open_table(CONTENT)?,
        links: transaction.open_table(LINKS)?,
        holders: transaction.open_table(HOLDERS)?,
        manifests: transaction.open_table(MANIFESTS)?,
        tags: transaction.open_table(TAGS)?,
        tagged: transaction.open_table(TAGGED)?,
        referrers: transaction.open_table(REFERRERS)?,
        uses: transaction.open_table(USES)?,
        usage: transaction.open_table(USAGE)?,
        events: transaction.open_table(EVENTS)?,
    })
}

/// Why a step does not fit what is there. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// A manifest refers to what the repository does not have.
    Unknown(Digest),
    /// A manifest gives another length than the content has.
    Size(Digest),
    /// A manifest still refers to it.
    InUse(Digest),
    /// A bound on what repositories take; with its prefix and its bytes.
    Quota(String, u64),
}

/// What a manifest that is put refers to.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Whether it must be a manifest, and not only a blob.
    pub(crate) is_document: bool,
}

/// A manifest to put.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub(crate) repository: Name,
    pub(crate) digest: Digest,
    pub(crate) record: Manifest,
    /// Its entry in the list of its subject, if it has one.
    pub(crate) referrer: Option<Referrer>,
    pub(crate) needs: Vec<Need>,
    pub(crate) tag: Option<Tag>,
}

/// A bound: prefix and bytes.
pub(crate) type Bounds = Arc<[(String, u64)]>;

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, DbError> {
        Ok(open_all(transaction)?)
    }

    /// Makes a blob of the content store readable through a repository.
    pub(crate) fn link(
        &mut self,
        repository: &Name,
        digest: &Digest,
        size: u64,
        bounds: &[(String, u64)],
        now: u64,
    ) -> Result<Result<(), Misfit>, DbError> {
        if let Some(misfit) = self.over_bounds(repository, digest, size, bounds)? {
            return Ok(Err(misfit));
        }
        let key = (repository.as_str(), digest.hex());
        self.links.insert(key, (size, now))?;
        self.hold(repository, digest, size, now)?;
        Ok(Ok(()))
    }

    /// Puts a manifest, and a tag on it.
    pub(crate) fn put_manifest(
        &mut self,
        put: &Put,
        bounds: &[(String, u64)],
    ) -> Result<Result<(), Misfit>, DbError> {
        let Put {
            repository,
            digest,
            record,
            ..
        } = put;
        for need in &put.needs {
            if let Some(misfit) = self.lacks(repository, need)? {
                return Ok(Err(misfit));
            }
        }
        if let Some(misfit) = self.over_bounds(repository, digest, record.size, bounds)? {
            return Ok(Err(misfit));
        }
        let (name, hex) = (repository.as_str(), digest.hex());
        let value = encode(record)?;
        self.manifests.insert((name, hex), value.as_slice())?;
        for used in &record.uses {
            self.uses.insert((name, used.hex(), hex), ())?;
        }
        if let (Some(subject), Some(referrer)) = (&record.subject, &put.referrer) {
            let value = encode(referrer)?;
            let key = (name, subject.hex(), hex);
            self.referrers.insert(key, value.as_slice())?;
        }
        self.hold(repository, digest, record.size, record.at)?;
        if let Some(tag) = &put.tag {
            self.tag(repository, tag, digest, record.at)?;
        }
        Ok(Ok(()))
    }

    fn lacks(&self, repository: &Name, need: &Need) -> Result<Option<Misfit>, DbError> {
        let key = (repository.as_str(), need.digest.hex());
        let document = match self.manifests.get(key)? {
            Some(value) => Some(decode::<Manifest>(value.value())?.size),
            None => None,
        };
        let blob = self.links.get(key)?.map(|value| value.value().0);
        let size = if need.is_document {
            document
        } else {
            blob.or(document)
        };
        Ok(match size {
            None => Some(Misfit::Unknown(need.digest.clone())),
            Some(size) if size != need.size => Some(Misfit::Size(need.digest.clone())),
            Some(_) => None,
        })
    }

    fn over_bounds(
        &self,
        repository: &Name,
        digest: &Digest,
        size: u64,
        bounds: &[(String, u64)],
    ) -> Result<Option<Misfit>, DbError> {
        let held = (digest.hex(), repository.as_str());
        if bounds.is_empty() || self.holders.get(held)?.is_some() {
            return Ok(None);
        }
        over(&self.usage, &self.content, repository, digest, size, bounds)
    }

    fn tag(
        &mut self,
        repository: &Name,
        tag: &Tag,
        digest: &Digest,
        now: u64,
    ) -> Result<(), DbError> {
        let name = repository.as_str();
        let lower = tag.as_str().to_ascii_lowercase();
        let key = (name, lower.as_str(), tag.as_str());
        let before = self.tags.insert(key, (digest.hex(), now))?;
        let before = before.map(|value| value.value().0.to_owned());
        if let Some(before) = before {
            self.tagged.remove((name, before.as_str(), tag.as_str()))?;
        }
        self.tagged.insert((name, digest.hex(), tag.as_str()), ())?;
        Ok(())
    }

    /// Removes a tag; tells what it was on.
    pub(crate) fn untag(
        &mut self,
        repository: &Name,
        tag: &Tag,
    ) -> Result<Option<Digest>, DbError> {
        let name = repository.as_str();
        let lower = tag.as_str().to_ascii_lowercase();
        let removed = self.tags.remove((name, lower.as_str(), tag.as_str()))?;
        let Some(hex) = removed.map(|value| value.value().0.to_owned()) else {
            return Ok(None);
        };
        self.tagged.remove((name, hex.as_str(), tag.as_str()))?;
        Ok(digest(&hex))
    }

    /// Removes a manifest with its tags; tells whether it was there.
    pub(crate) fn remove_manifest(
        &mut self,
        repository: &Name,
        digest: &Digest,
    ) -> Result<Result<bool, Misfit>, DbError> {
        let (name, hex) = (repository.as_str(), digest.hex());
        let Some(record) = self.manifest(repository, digest)? else {
            return Ok(Ok(false));
        };
        if let Some(user) = self.user(repository, digest)? {
            return Ok(Err(Misfit::InUse(user)));
        }
        for tag in third(&self.tagged, name, hex, usize::MAX)? {
            let lower = tag.to_ascii_lowercase();
            self.tags.remove((name, lower.as_str(), tag.as_str()))?;
            self.tagged.remove((name, hex, tag.as_str()))?;
        }
        for used in &record.uses {
            self.uses.remove((name, used.hex(), hex))?;
        }
        if let Some(subject) = &record.subject {
            self.referrers.remove((name, subject.hex(), hex))?;
        }
        self.manifests.remove((name, hex))?;
        self.let_go(repository, digest, record.size)?;
        Ok(Ok(true))
    }

    /// Makes a blob unreadable through a repository; tells whether it was readable.
    pub(crate) fn unlink(
        &mut self,
        repository: &Name,
        digest: &Digest,
    ) -> Result<Result<bool, Misfit>, DbError> {
        let key = (repository.as_str(), digest.hex());
        let Some((size, _)) = self.links.get(key)?.map(|value| value.value()) else {
            return Ok(Ok(false));
        };
        if let Some(user) = self.user(repository, digest)? {
            return Ok(Err(Misfit::InUse(user)));
        }
        self.links.remove(key)?;
        self.let_go(repository, digest, size)?;
        Ok(Ok(true))
    }

    /// A manifest of the repository that refers to this.
    fn user(&self, repository: &Name, digest: &Digest) -> Result<Option<Digest>, DbError> {
        let users = third(&self.uses, repository.as_str(), digest.hex(), 1)?;
        Ok(users.first().and_then(|hex| self::digest(hex)))
    }

    fn manifest(&self, repository: &Name, digest: &Digest) -> Result<Option<Manifest>, DbError> {
        let row = self.manifests.get((repository.as_str(), digest.hex()))?;
        row.map(|value| decode(value.value())).transpose()
    }

    fn hold(
        &mut self,
        repository: &Name,
        digest: &Digest,
        size: u64,
        now: u64,
    ) -> Result<(), DbError> {
        let (name, hex) = (repository.as_str(), digest.hex());
        if self.holders.insert((hex, name), ())?.is_none() {
            self.count(name, size, true)?;
        }
        if self.content.insert(hex, size)?.is_none() {
            self.count(ALL, size, true)?;
        }
        if self.repositories.get(name)?.is_none() {
            self.repositories.insert(name, now)?;
        }
        Ok(())
    }

    /// Drops a repository's share, once it is neither blob nor manifest there.
    fn let_go(&mut self, repository: &Name, digest: &Digest, size: u64) -> Result<(), DbError> {
        let (name, hex) = (repository.as_str(), digest.hex());
        let key = (name, hex);
        if self.links.get(key)?.is_some() || self.manifests.get(key)?.is_some() {
            return Ok(());
        }
        if self.holders.remove((hex, name))?.is_some() {
            self.count(name, size, false)?;
        }
        let is_first = |found: Option<&str>| found == Some(name);
        let (links, manifests) = (first(&self.links, name)?, first(&self.manifests, name)?);
        if !is_first(links.as_deref()) && !is_first(manifests.as_deref()) {
            self.repositories.remove(name)?;
            self.usage.remove(name)?;
        }
        Ok(())
    }

    fn count(&mut self, key: &str, size: u64, more: bool) -> Result<(), DbError> {
        let before = self.usage.get(key)?.map_or(0, |value| value.value());
        let after = if more {
            before.saturating_add(size)
        } else {
            before.saturating_sub(size)
        };
        self.usage.insert(key, after)?;
        Ok(())
    }

    /// Whether a blob's link may be collected: nothing refers to it and it was made before a time.
    pub(crate) fn is_idle_link(
        &self,
        repository: &Name,
        digest: &Digest,
        before: u64,
    ) -> Result<bool, DbError> {
        let key = (repository.as_str(), digest.hex());
        let at = self.links.get(key)?.map(|value| value.value().1);
        Ok(at.is_some_and(|at| at <= before) && self.user(repository, digest)?.is_none())
    }

    /// Whether a manifest may be collected: no tag, no index and no subject keeps it, and it was put before a time.
    pub(crate) fn is_idle_manifest(
        &self,
        repository: &Name,
        digest: &Digest,
        before: u64,
        tags_keep: bool,
    ) -> Result<bool, DbError> {
        let (name, hex) = (repository.as_str(), digest.hex());
        let Some(record) = self.manifest(repository, digest)? else {
            return Ok(false);
        };
        let subject = match &record.subject {
            Some(subject) => self.manifest(repository, subject)?.is_some(),
            None => false,
        };
        Ok(record.at <= before
            && !subject
            && self.user(repository, digest)?.is_none()
            && (!tags_keep || third(&self.tagged, name, hex, 1)?.is_empty()))
    }

    /// Notes that a manifest was asked for.
    pub(crate) fn touch(
        &mut self,
        repository: &Name,
        digest: &Digest,
        now: u64,
    ) -> Result<(), DbError> {
        if let Some(record) = self.manifest(repository, digest)? {
            let value = encode(&Manifest { at: now, ..record })?;
            let key = (repository.as_str(), digest.hex());
            self.manifests.insert(key, value.as_slice())?;
        }
        Ok(())
    }

    /// Forgets content that no repository has; tells its length where it was forgotten.
    pub(crate) fn forget(&mut self, digest: &Digest) -> Result<Option<u64>, DbError> {
        let hex = digest.hex();
        let held = first(&self.holders, hex)?;
        if held.as_deref() == Some(hex) {
            return Ok(None);
        }
        let Some(size) = self.content.remove(hex)?.map(|value| value.value()) else {
            return Ok(None);
        };
        self.count(ALL, size, false)?;
        Ok(Some(size))
    }
}

/// Whether content of this length would pass a bound.
fn over(
    usage: &impl ReadableTable<&'static str, u64>,
    content: &impl ReadableTable<&'static str, u64>,
    repository: &Name,
    digest: &Digest,
    size: u64,
    bounds: &[(String, u64)],
) -> Result<Option<Misfit>, DbError> {
    for (prefix, limit) in bounds {
        if !repository.as_str().starts_with(prefix.as_str()) {
            continue;
        }
        let (taken, more) = if prefix.is_empty() {
            // the whole store: content counts once, whoever has it
            let taken = usage.get(ALL)?.map_or(0, |value| value.value());
            let known = content.get(digest.hex())?.is_some();
            (taken, if known { 0 } else { size })
        } else {
            (usage_below(usage, prefix)?, size)
        };
        if taken.saturating_add(more) > *limit {
            return Ok(Some(Misfit::Quota(prefix.clone(), *limit)));
        }
    }
    Ok(None)
}

fn usage_below(
    usage: &impl ReadableTable<&'static str, u64>,
    prefix: &str,
) -> Result<u64, DbError> {
    let mut total: u64 = 0;
    for row in usage.range::<&str>(prefix..)? {
        let (key, value) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        total = total.saturating_add(value.value());
    }
    Ok(total)
}

/// The first part of the first key at or behind this one.
fn first<V: redb::Value + 'static>(
    table: &impl ReadableTable<Pair, V>,
    from: &str,
) -> Result<Option<String>, DbError> {
    match table.range::<(&str, &str)>((from, "")..)?.next() {
        None => Ok(None),
        Some(row) => Ok(Some(row?.0.value().0.to_owned())),
    }
}

/// The third parts of keys that begin with two others.
fn third<V: redb::Value + 'static>(
    table: &impl ReadableTable<Triple, V>,
    one: &str,
    two: &str,
    most: usize,
) -> Result<Vec<String>, DbError> {
    let mut found = Vec::new();
    for row in table.range::<(&str, &str, &str)>((one, two, "")..)? {
        let (key, _) = row?;
        let key = key.value();
        if key.0 != one || key.1 != two || found.len() >= most {
            break;
        }
        found.push(key.2.to_owned());
    }
    Ok(found)
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, DbError> {
    serde_json::to_vec(value).map_err(|error| DbError::Record(Arc::new(error)))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, DbError> {
    serde_json::from_slice(bytes).map_err(|error| DbError::Record(Arc::new(error)))
}

pub(crate) fn digest(hex: &str) -> Option<Digest> {
    format!("{}:{hex}", Digest::ALGORITHM).parse().ok()
}

/// The tables in a read transaction.
pub(crate) struct Reader<'t> {
    transaction: &'t ReadTransaction,
}

impl<'t> Reader<'t> {
    pub(super) fn new(transaction: &'t ReadTransaction) -> Self {
        Self { transaction }
    }

    /// A table.
    pub(super) fn open<K: redb::Key, V: redb::Value>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<redb::ReadOnlyTable<K, V>, DbError> {
        Ok(self.transaction.open_table(table)?)
    }

    /// Whether the repository was written to.
    pub(crate) fn has_repository(&self, repository: &Name) -> Result<bool, DbError> {
        let table = self.transaction.open_table(REPOSITORIES)?;
        Ok(table.get(repository.as_str())?.is_some())
    }

    /// The length of a blob that may be read through the repository.
    pub(crate) fn link(
        &self,
        repository: &Name,
        digest: &Digest,
    ) -> Result<Option<(u64, u64)>, DbError> {
        let table = self.transaction.open_table(LINKS)?;
        let row = table.get((repository.as_str(), digest.hex()))?;
        Ok(row.map(|value| value.value()))
    }

    /// The length of content, whoever has it.
    pub(crate) fn content(&self, digest: &Digest) -> Result<Option<u64>, DbError> {
        let table = self.transaction.open_table(CONTENT)?;
        Ok(table.get(digest.hex())?.map(|value| value.value()))
    }

    /// The repositories that have content.
    pub(crate) fn holders(&self, digest: &Digest, most: usize) -> Result<Vec<Name>, DbError> {
        let table = self.transaction.open_table(HOLDERS)?;
        let mut found = Vec::new();
        for row in table.range::<(&str, &str)>((digest.hex(), "")..)? {
            let (key, _) = row?;
            let (hex, name) = key.value();
            if hex != digest.hex() || found.len() >= most {
                break;
            }
            found.extend(Name::parse(name));
        }
        Ok(found)
    }

    pub(crate) fn manifest(
        &self,
        repository: &Name,
        digest: &Digest,
    ) -> Result<Option<Manifest>, DbError> {
        let table = self.transaction.open_table(MANIFESTS)?;
        let row = table.get((repository.as_str(), digest.hex()))?;
        row.map(|value| decode(value.value())).transpose()
    }

    /// Manifests of the repository that refer to this.
    pub(crate) fn users(
        &self,
        repository: &Name,
        digest: &Digest,
        most: usize,
    ) -> Result<Vec<Digest>, DbError> {
        let table = self.transaction.open_table(USES)?;
        let users = third(&table, repository.as_str(), digest.hex(), most)?;
        Ok(users.iter().filter_map(|hex| self::digest(hex)).collect())
    }

    /// What a tag is on, and since when.
    pub(crate) fn tag(
        &self,
        repository: &Name,
        tag: &Tag,
    ) -> Result<Option<(Digest, u64)>, DbError> {
        let table = self.transaction.open_table(TAGS)?;
        let lower = tag.as_str().to_ascii_lowercase();
        let row = table.get((repository.as_str(), lower.as_str(), tag.as_str()))?;
        Ok(row.and_then(|value| {
            let (hex, at) = value.value();
            digest(hex).map(|digest| (digest, at))
        }))
    }

    /// Tags behind one, in their order, with what they are on.
    pub(crate) fn tags(
        &self,
        repository: &Name,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Option<Digest>, u64)>, DbError> {
        let table = self.transaction.open_table(TAGS)?;
        let name = repository.as_str();
        let after = after.unwrap_or_default();
        let lower = after.to_ascii_lowercase();
        let mut found = Vec::new();
        for row in table.range::<(&str, &str, &str)>((name, lower.as_str(), after)..)? {
            let (key, value) = row?;
            let (repository, _, tag) = key.value();
            if repository != name || found.len() >= most {
                break;
            }
            if !after.is_empty() && tag == after {
                continue;
            }
            let (hex, at) = value.value();
            found.push((tag.to_owned(), digest(hex), at));
        }
        Ok(found)
    }

    /// The tags of a manifest.
    pub(crate) fn tags_of(
        &self,
        repository: &Name,
        digest: &Digest,
        most: usize,
    ) -> Result<Vec<String>, DbError> {
        let table = self.transaction.open_table(TAGGED)?;
        third(&table, repository.as_str(), digest.hex(), most)
    }

    /// Those that refer to a manifest, behind one of them.
    pub(crate) fn referrers(
        &self,
        repository: &Name,
        subject: &Digest,
        after: Option<&str>,
        mut take: impl FnMut(Referrer) -> bool,
    ) -> Result<(), DbError> {
        let table = self.transaction.open_table(REFERRERS)?;
        let (name, hex) = (repository.as_str(), subject.hex());
        let after = after.unwrap_or_default();
        for row in table.range::<(&str, &str, &str)>((name, hex, after)..)? {
            let (key, value) = row?;
            let key = key.value();
            if key.0 != name || key.1 != hex {
                break;
            }
            if key.2 != after && !take(decode(value.value())?) {
                break;
            }
        }
        Ok(())
    }

    /// Repositories behind one, in order; `take` says whether it wants more.
    pub(crate) fn repositories(
        &self,
        after: Option<&str>,
        mut take: impl FnMut(&str) -> bool,
    ) -> Result<(), DbError> {
        let table = self.transaction.open_table(REPOSITORIES)?;
        let after = after.unwrap_or_default();
        for row in table.range::<&str>(after..)? {
            let (key, _) = row?;
            if key.value() != after && !take(key.value()) {
                break;
            }
        }
        Ok(())
    }

    /// All links at or before a time, in no particular order of time; a few at once, behind a key.
    pub(crate) fn links_after(
        &self,
        after: &(String, String),
        most: usize,
    ) -> Result<Vec<(String, String, u64)>, DbError> {
        let table = self.transaction.open_table(LINKS)?;
        let mut found = Vec::new();
        for row in table.range::<(&str, &str)>((after.0.as_str(), after.1.as_str())..)? {
            let (key, value) = row?;
            let (name, hex) = key.value();
            if found.len() >= most {
                break;
            }
            if (name, hex) != (after.0.as_str(), after.1.as_str()) {
                found.push((name.to_owned(), hex.to_owned(), value.value().1));
            }
        }
        Ok(found)
    }

    /// Manifests, a few at once, behind a key.
    pub(crate) fn manifests_after(
        &self,
        after: &(String, String),
        most: usize,
    ) -> Result<Vec<(String, String, u64)>, DbError> {
        let table = self.transaction.open_table(MANIFESTS)?;
        let mut found = Vec::new();
        for row in table.range::<(&str, &str)>((after.0.as_str(), after.1.as_str())..)? {
            let (key, value) = row?;
            let (name, hex) = key.value();
            if found.len() >= most {
                break;
            }
            if (name, hex) != (after.0.as_str(), after.1.as_str()) {
                let record: Manifest = decode(value.value())?;
                found.push((name.to_owned(), hex.to_owned(), record.at));
            }
        }
        Ok(found)
    }

    /// Content that no repository has, a few at once, behind a digest; with where to go on.
    pub(crate) fn unheld(
        &self,
        after: &str,
        most: usize,
    ) -> Result<(Vec<String>, Option<String>), DbError> {
        let content = self.transaction.open_table(CONTENT)?;
        let holders = self.transaction.open_table(HOLDERS)?;
        let mut found = Vec::new();
        let mut last = None;
        for (seen, row) in content.range::<&str>(after..)?.enumerate() {
            let (key, _) = row?;
            let hex = key.value();
            if seen >= most {
                return Ok((found, last));
            }
            last = Some(hex.to_owned());
            if first(&holders, hex)?.as_deref() != Some(hex) {
                found.push(hex.to_owned());
            }
        }
        Ok((found, None))
    }

    /// Bytes of a repository, or of all content.
    pub(crate) fn usage(&self, repository: Option<&Name>) -> Result<u64, DbError> {
        let table = self.transaction.open_table(USAGE)?;
        let row = table.get(repository.map_or(ALL, Name::as_str))?;
        Ok(row.map_or(0, |value| value.value()))
    }

    /// A bound that content of this length would pass.
    pub(crate) fn over(
        &self,
        repository: &Name,
        digest: Option<&Digest>,
        size: u64,
        bounds: &[(String, u64)],
    ) -> Result<Option<Misfit>, DbError> {
        if bounds.is_empty() {
            return Ok(None);
        }
        let usage = self.transaction.open_table(USAGE)?;
        let content = self.transaction.open_table(CONTENT)?;
        let unknown = Digest::from_sha256(&[0; 32]);
        let digest = digest.unwrap_or(&unknown);
        over(&usage, &content, repository, digest, size, bounds)
    }

    /// How many repositories and how much content there are.
    pub(crate) fn counts(&self) -> Result<(u64, u64), DbError> {
        use redb::ReadableTableMetadata as _;
        let repositories = self.transaction.open_table(REPOSITORIES)?.len()?;
        Ok((repositories, self.transaction.open_table(CONTENT)?.len()?))
    }
}
